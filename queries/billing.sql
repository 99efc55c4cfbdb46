-- What transit is billed by: the 95th percentile of 5-minute means, per host and direction.
--
-- Means over bins of 5 minutes, aligned to the clock, those without traffic too; the top 5% are dropped and the next highest
-- is what is billed, the higher of both directions. Payload bytes: a provider counts headers on top. A real bill covers a
-- month (8,640 bins): `bins` says how much of that is here.
--
-- @table   flows
-- @param   bin duration = 5m: width of a bin
-- @param   percentile number = 95: the percentile that is billed
-- @column  host VARCHAR: the observer
-- @column  direction VARCHAR: received or sent by it; forwarded through a gateway as to_server and to_client
-- @column  bins BIGINT count: bins
-- @column  dropped BIGINT count: bins that are dropped, the highest
-- @column  billed DOUBLE bits/s: the percentile
-- @column  mean DOUBLE bits/s: over all bins
-- @column  peak DOUBLE bits/s: the highest bin
-- @column  total BIGINT bytes: payload bytes
-- @column  is_billed BOOLEAN: whether this is the host's higher direction
-- @chart   bar x=billed y=direction
-- @example web-day bin=10s
-- @expect  web1 | received | 8 | 0 | ... | ... | ... | 64823304 | true
-- @expect  web1 | sent | 8 | 0 | 15936.8 | 8358.9 | 15936.8 | 83589 | false
with span as (
  select
    greatest(epoch_us(min(start_time)), window_start()) as low, least(epoch_us(max(end_time)), window_end() - 1) as high
  from flow_overlapping
  having count(*) > 0
),
both_ways as (
  select
    coalesce(host, '(unknown)') as host, epoch_us(bin) // $bin as bin, role,
    coalesce(sum(client_bytes), 0) as client_bytes, coalesce(sum(server_bytes), 0) as server_bytes
  from flow_binned($bin::BIGINT)
  where role is distinct from 'both'
  group by all
),
directed as (
  select
    host, bin,
    unnest(case when role = 'client' or role = 'server' then ['received', 'sent'] else ['to_client', 'to_server'] end)
      as direction,
    unnest(case when role = 'server' then [client_bytes, server_bytes] else [server_bytes, client_bytes] end) as bytes
  from both_ways
),
binned as (
  select host, direction, bin, sum(bytes) as bytes from directed group by all
),
counted as (
  select *, (select high // $bin - low // $bin + 1 from span) as bins from binned
),
ranked as (
  select
    *, row_number() over (partition by host, direction order by bytes desc, bin) as place,
    floor(bins * (1 - $percentile / 100) + 1e-9)::BIGINT as dropped
  from counted
),
measured as (
  select
    host, direction, max(bins)::BIGINT as bins, max(dropped)::BIGINT as dropped,
    -- Bins without traffic are not listed: beyond those that are, the percentile is zero.
    coalesce(max(bytes) filter (where place = dropped + 1), 0) * 8e6 / nullif($bin, 0)::DOUBLE as billed,
    sum(bytes) * 8e6 / nullif($bin * max(bins), 0)::DOUBLE as mean,
    max(bytes) * 8e6 / nullif($bin, 0)::DOUBLE as peak,
    sum(bytes)::BIGINT as total
  from ranked
  group by all
)
select
  *, row_number() over (partition by host order by billed desc, total desc, direction) = 1 as is_billed
from measured
order by host, direction;
