-- Who opens connections over and over: short flows that carry little.
--
-- Churn costs handshakes, ephemeral ports and connection tracking. A service that lost its connection pool or keep-alive
-- shows with many connections a second, few bytes in each, and short lives.
--
-- @table   flows
-- @param   by dimension(service, pair, client, server, process, container, host) = service: what to group by
-- @param   short duration = 1s: a life below this is short
-- @param   n  integer = 20: rows to show, most connections first
-- @column  talker VARCHAR: what the flows are grouped by
-- @column  connections BIGINT flows: flows that ended
-- @column  rate DOUBLE flows/s: flows per second, over the time from its first to its last
-- @column  peak DOUBLE flows/s: most flows that ended within a second
-- @column  short_share DOUBLE ratio: flows that lived shorter than --short
-- @column  mean_bytes DOUBLE bytes: payload bytes of a flow
-- @column  life_p50 DOUBLE us: half of the flows lived shorter
-- @column  life_p95 DOUBLE us: 95% of the flows lived shorter
-- @chart   bar x=connections y=talker
-- @example web-day n=2
-- @expect  10.20.1.2:80 | 529 | ... | 18.0 | 1.0
-- @expect  10.20.2.1:8000 | 200 | ... | 10.0 | 1.0 | 1950.54
with lived as (
  select *, epoch_us(end_time) // 1000000 as second from session
),
seconds as (
  select
    {by.keys}, second, sum(flows) as flows, sum(flows) filter (where life < $short) as short, sum(bytes) as bytes,
    min(began) as began, max(end_time) as ended
  from lived
  group by {by.keys}, second
),
lives as (
  select {by.keys}, histogram(weighted(log_bucket(life), weight)) as lives from lived group by {by.keys}
),
grouped as (
  select
    {by.keys}, sum(flows) as flows, max(flows) as peak, sum(short) as short, sum(bytes) as bytes, min(began) as began,
    max(ended) as ended
  from seconds
  group by {by.keys}
),
named as (
  select {by.label} as talker, * from grouped
),
named_lives as (
  select {by.label} as talker, lives from lives
)
select
  talker,
  flows::BIGINT as connections,
  flows * 1e6 / greatest(epoch_us(ended) - epoch_us(began), 1000000)::DOUBLE as rate,
  peak::DOUBLE as peak,
  coalesce(short, 0) / nullif(flows, 0)::DOUBLE as short_share,
  bytes / nullif(flows, 0)::DOUBLE as mean_bytes,
  weighted_quantile(lives, 0.5) as life_p50,
  weighted_quantile(lives, 0.95) as life_p95
from named join named_lives using (talker)
order by connections desc, bytes desc, talker
limit $n;
