-- Round-trip times to every peer, and how much of them is waiting in queues.
--
-- The least time that was ever seen is the distance; what the usual time is above it was spent in queues: bufferbloat, or
-- a link that is full.
--
-- @table   flows
-- @param   n integer = 20: rows to show, most queueing first
-- @column  client VARCHAR: client address
-- @column  server VARCHAR: server name or address
-- @column  flows BIGINT flows: flows
-- @column  rtt_min BIGINT us: the least round-trip time
-- @column  rtt_p50 DOUBLE us: median of the smoothed round-trip times
-- @column  rtt_p95 DOUBLE us: 95th percentile of the smoothed round-trip times
-- @column  queueing_p50 DOUBLE us: median of what is above the least time
-- @column  queueing_p95 DOUBLE us: 95th percentile of what is above the least time
-- @chart   bar x=rtt_p50 y=server
-- @example web-day n=1
-- @expect  10.20.2.1 | 10.20.2.2 | 2 | 11
with grouped as (
  select
    client_address,
    server,
    sum(flows)::BIGINT as flows,
    min(rtt_min_us) as rtt_min,
    histogram(weighted(log_bucket(rtt_us), weight)) as trips,
    histogram(weighted(log_bucket(greatest(rtt_us - rtt_min_us, 0)), weight)) filter (where rtt_min_us is not null) as queues
  from flow
  where rtt_us is not null
  group by all
)
select
  client_address as client,
  server,
  flows,
  rtt_min,
  weighted_quantile(trips, 0.5) as rtt_p50,
  weighted_quantile(trips, 0.95) as rtt_p95,
  weighted_quantile(queues, 0.5) as queueing_p50,
  weighted_quantile(queues, 0.95) as queueing_p95
from grouped
order by queueing_p95 desc nulls last, rtt_p95 desc, client, server
limit $n;
