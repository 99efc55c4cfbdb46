-- Names that were looked up: how often, how slowly, and what failed.
--
-- A slow or failing resolver makes everything slow: look here before blaming a service. Recorded with --dns. Equal
-- queries of one second count with the slowest of them, which is less than twice what the others took.
--
-- @table   events
-- @param   order choice(queries, failures, latency) = queries: what to rank by
-- @param   n integer = 20: rows to show
-- @column  name VARCHAR: the name asked for
-- @column  queries BIGINT events: queries
-- @column  failures BIGINT events: of them without an answer, or answered with an error
-- @column  failure_ratio DOUBLE ratio: those of all
-- @column  reason VARCHAR: the most frequent reason of a failure
-- @column  latency_p50 DOUBLE us: half of the answers came within
-- @column  latency_p95 DOUBLE us: 95% of the answers came within
-- @column  clients BIGINT count: addresses that asked
-- @column  resolver VARCHAR: the resolver that was asked, or one of them
-- @chart   bar x=queries y=name
-- @example own-programs order=failures
-- @expect  pages.shop.example | 476 | 15 | ... | timeout | ... | ... | 1 | 10.38.1.2
-- @expect  orders.shop.example | 482 | 6 | ... | timeout
with asked as (
  select
    coalesce(name, '(unknown)') as name, coalesce("count", 1) as asked, kind = 'dns_failure' as failed, reason, duration_us,
    client_address, server_address
  from events
  where kind in ('dns_query', 'dns_failure')
),
grouped as (
  select
    name, sum(asked)::BIGINT as queries, coalesce(sum(asked) filter (where failed), 0)::BIGINT as failures,
    count(distinct client_address) as clients, min(server_address) as resolver
  from asked
  group by all
),
buckets as (
  select name, log_bucket(duration_us) as bucket, sum(asked) as times
  from asked
  where duration_us is not null and not failed
  group by all
),
latencies as (
  select name, map(list(bucket order by bucket), list(times order by bucket)) as latencies from buckets group by all
),
reasons as (
  select name, arg_max(reason, (times, reason)) as reason
  from (select name, reason, sum(asked) as times from asked where failed and reason is not null group by all)
  group by all
)
select
  name, queries, failures, failures / nullif(queries, 0)::DOUBLE as failure_ratio, reason,
  histogram_quantile(latencies, 0.5) as latency_p50, histogram_quantile(latencies, 0.95) as latency_p95, clients, resolver
from grouped left join reasons using (name) left join latencies using (name)
order by
  case $order when 'queries' then queries when 'failures' then failures else latency_p95 end desc nulls last,
  queries desc, name
limit $n;
