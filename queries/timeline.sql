-- Traffic over time: bytes, packets, flows and retransmits per bin.
--
-- A row of the trace that spans several bins is spread over them in proportion to time, so that a long transfer shows as
-- the plateau that it was; the sums stay exact. Bins without traffic show as zero: times without recording are named in
-- the notes. Flows are counted when they end.
--
-- @table   flows
-- @param   bin   duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  client_bytes BIGINT bytes: payload bytes sent by clients
-- @column  server_bytes BIGINT bytes: payload bytes sent by servers
-- @column  rate DOUBLE bits/s: payload bits per second over the bin, both ways
-- @column  packets BIGINT packets: packets, both ways
-- @column  flows BIGINT flows: flows that ended, each counted once
-- @column  retransmits BIGINT segments: segments sent again, both ways
-- @chart   line x=time y=rate
with span as (
  select
    greatest(epoch_us(min(start_time)), window_start()) as low,
    least(epoch_us(max(end_time)), window_end() - 1) as high
  from flow_overlapping
  having count(*) > 0
),
width as (
  select coalesce($bin::BIGINT, min(case when (high - low) / candidate <= 60 then candidate end), 86400000000) as width
  from span, (
    select unnest([
      1000, 10000, 100000, 1000000, 5000000, 10000000, 30000000, 60000000, 300000000, 600000000, 1800000000, 3600000000,
      10800000000, 21600000000, 86400000000
    ]::BIGINT[]) as candidate
  )
),
binned as (
  select
    bin,
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    sum(packets) as packets,
    sum(flows) as flows,
    sum(retransmits) as retransmits
  from flow_binned((select width from width))
  group by bin
),
every_bin as (
  select make_timestamptz(unnest(range(low // width * width, high + 1, width))) as bin
  from span, width
)
select
  every_bin.bin as time,
  (coalesce(client_bytes, 0) + coalesce(server_bytes, 0))::BIGINT as bytes,
  coalesce(client_bytes, 0)::BIGINT as client_bytes,
  coalesce(server_bytes, 0)::BIGINT as server_bytes,
  (coalesce(client_bytes, 0) + coalesce(server_bytes, 0)) * 8e6::DOUBLE / (select width from width) as rate,
  coalesce(packets, 0)::BIGINT as packets,
  coalesce(flows, 0)::BIGINT as flows,
  coalesce(retransmits, 0)::BIGINT as retransmits
from every_bin left join binned using (bin)
order by time;
