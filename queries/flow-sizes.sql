-- How large flows are: mice and elephants, by powers of ten.
--
-- Which sizes are many, and which carry the bytes: what a cache, a rate limit or a packet buffer is sized by.
--
-- @table   flows
-- @column  size VARCHAR: payload bytes of a flow, both ways
-- @column  flows BIGINT flows: flows of that size
-- @column  flow_share DOUBLE ratio: of all flows
-- @column  bytes BIGINT bytes: payload bytes that they carry
-- @column  byte_share DOUBLE ratio: of all bytes
-- @column  life_p50 DOUBLE us: half of them lived shorter
-- @chart   bar x=flows y=size
-- @example web-day
-- @expect  none | 23 | ... | 0 | 0.0
-- @expect  100 B and more | 23 | ... | 8809
with sized as (
  select
    case when coalesce(bytes // weight, 0) <= 0 then -1 else floor(log10(bytes // weight))::INTEGER end as power,
    flows, bytes, life, weight
  from session
),
grouped as (
  select
    least(power, 12) as power, sum(flows) as flows, coalesce(sum(bytes), 0) as bytes,
    histogram(weighted(log_bucket(life), weight)) as lives
  from sized
  group by all
)
select
  case when power = -1 then 'none'
    else (['1 B', '10 B', '100 B', '1 kB', '10 kB', '100 kB', '1 MB', '10 MB', '100 MB', '1 GB', '10 GB', '100 GB', '1 TB'])[power + 1]
      || ' and more' end as size,
  flows::BIGINT as flows,
  flows / nullif(sum(flows) over (), 0)::DOUBLE as flow_share,
  bytes::BIGINT as bytes,
  bytes / nullif(sum(bytes) over (), 0)::DOUBLE as byte_share,
  weighted_quantile(lives, 0.5) as life_p50
from grouped
order by power;
