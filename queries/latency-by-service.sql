-- How long services take: to connect, to and fro on the wire, and to the first byte.
--
-- Connect latency is counted once per connection, the round-trip time once per interval. The time to the first byte needs
-- sessions of a proxy. Quantiles are within 1% of the exact ones.
--
-- @table   flows
-- @param   by dimension(service, server, pair, client, process, container, host) = service: what to group by
-- @param   n  integer = 20: rows to show, slowest 95th percentile of connecting first
-- @column  service VARCHAR: what the flows are grouped by
-- @column  flows BIGINT flows: flows
-- @column  connect_p50 DOUBLE us: half of the connections were established within
-- @column  connect_p95 DOUBLE us: 95% of the connections were established within
-- @column  connect_p99 DOUBLE us: 99% of the connections were established within
-- @column  rtt_min BIGINT us: the least round-trip time
-- @column  rtt_p50 DOUBLE us: median of the smoothed round-trip times
-- @column  rtt_p95 DOUBLE us: 95th percentile of the smoothed round-trip times
-- @column  first_byte_p50 DOUBLE us: median of the times to the server's first byte
-- @column  first_byte_p95 DOUBLE us: 95th percentile of the times to the server's first byte
-- @chart   bar x=connect_p95 y=service
-- @example web-day by=server n=2
-- @expect  fd20:1::2 | 164 | ... | ... | ... | 4
-- @expect  10.20.3.2 | 1 | ... | ... | ... | 9
with grouped as (
  select
    {by.keys},
    sum(flows)::BIGINT as flows,
    histogram(weighted(log_bucket(connect_latency_us), weight)) filter (
      where connect_latency_us is not null and flow_start_time >= start_time
    ) as connects,
    min(rtt_min_us) as rtt_min,
    histogram(weighted(log_bucket(rtt_us), weight)) filter (where rtt_us is not null) as trips,
    histogram(weighted(log_bucket(time_to_first_byte_us), weight)) filter (where time_to_first_byte_us is not null) as first_bytes
  from flow
  group by {by.keys}
)
select
  {by.label} as service,
  flows,
  weighted_quantile(connects, 0.5) as connect_p50,
  weighted_quantile(connects, 0.95) as connect_p95,
  weighted_quantile(connects, 0.99) as connect_p99,
  rtt_min,
  weighted_quantile(trips, 0.5) as rtt_p50,
  weighted_quantile(trips, 0.95) as rtt_p95,
  weighted_quantile(first_bytes, 0.5) as first_byte_p50,
  weighted_quantile(first_bytes, 0.95) as first_byte_p95
from grouped
order by connect_p95 desc nulls last, rtt_p95 desc nulls last, flows desc, service
limit $n;
