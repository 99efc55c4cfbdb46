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
-- @example web-day bin=30s
-- @expect  2026-11-23T01:45:00Z | 55383279 | 10513 | 55372766 | 14768874.4 | 40428 | 112 | 0
-- @expect  2026-11-23T01:45:30Z | 8431676 | 56942 | 8374734 | ... | 13032 | 613 | 0
-- @expect  2026-11-23T01:46:00Z | 1091938 | 16134 | 1075804 | ... | 2818 | 171 | 0
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
summed as (
  select
    bin_number,
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    sum(client_packets) as client_packets,
    sum(server_packets) as server_packets,
    sum(flows) as flows,
    sum(client_retransmits) as client_retransmits,
    sum(server_retransmits) as server_retransmits
  from flow_ended((select width from width))
  group by bin_number
  union all
  select
    bin_number,
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    sum(client_packets) as client_packets,
    sum(server_packets) as server_packets,
    sum(flows) as flows,
    sum(client_retransmits) as client_retransmits,
    sum(server_retransmits) as server_retransmits
  from flow_moved((select width from width))
  group by bin_number
),
binned as (
  select
    bin_number,
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    coalesce(sum(client_packets), 0) + coalesce(sum(server_packets), 0) as packets,
    sum(flows) as flows,
    coalesce(sum(client_retransmits), 0) + coalesce(sum(server_retransmits), 0) as retransmits
  from summed
  group by bin_number
),
every_bin as (
  select unnest(range(low // width, high // width + 1)) as bin_number from span, width
)
select
  make_timestamptz(bin_number * (select width from width)) as time,
  (coalesce(client_bytes, 0) + coalesce(server_bytes, 0))::BIGINT as bytes,
  coalesce(client_bytes, 0)::BIGINT as client_bytes,
  coalesce(server_bytes, 0)::BIGINT as server_bytes,
  (coalesce(client_bytes, 0) + coalesce(server_bytes, 0)) * 8e6::DOUBLE / (select width from width) as rate,
  coalesce(packets, 0)::BIGINT as packets,
  coalesce(flows, 0)::BIGINT as flows,
  coalesce(retransmits, 0)::BIGINT as retransmits
from every_bin left join binned using (bin_number)
order by time;
