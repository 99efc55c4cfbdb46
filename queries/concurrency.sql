-- Flows that are open at the same time, over time.
--
-- What a connection limit, a file-descriptor limit or a tracking table has to hold: the mean and the highest number in every
-- bin.
--
-- @table   flows
-- @param   bin duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  peak BIGINT flows: most that were open at once
-- @column  mean DOUBLE flows: open on average over the bin
-- @column  opened BIGINT flows: flows that began in it
-- @column  closed BIGINT flows: flows that ended in it
-- @chart   line x=time y=peak
-- @example web-day bin=30s
-- @expect  2026-11-23T01:45:00Z | 4 | ... | 114 | 112
-- @expect  2026-11-23T01:45:30Z | 4 | 1.176788 | 612 | 613
with lives as (
  select
    greatest(epoch_us(began), window_start()) as low, least(epoch_us(end_time), window_end()) as high,
    -- Short flows that share a row are spread over its time.
    case when weight > coalesce(sampling_interval, 1) and end_time > began
      then round(flows * life / (epoch_us(end_time) - epoch_us(began)))::BIGINT else flows end as flows,
    flows as counted,
    flow_end_reason in ('active', 'forced') as open
  from session
),
span as (
  select min(low) as low, max(high) as high from lives having count(*) > 0
),
width as (
  select bin_width($bin, low, high) as width from span
),
changes as (
  select
    low as moment, flows as change, counted as opened, 0 as closed, case when low = high then flows else 0 end as instant
  from lives
  union all
  select high as moment, -flows as change, 0 as opened, case when open then 0 else counted end as closed,
    0 as instant
  from lives
  union all
  select unnest(range(low // width * width, high + 1, width)) as moment, 0 as change, 0 as opened, 0 as closed,
    0 as instant
  from span, width
),
moments as (
  select moment, sum(change) as change, sum(opened) as opened, sum(closed) as closed, sum(instant) as instant
  from changes
  group by all
),
running as (
  select
    *, sum(change) over (order by moment) as after,
    lead(moment) over (order by moment) as until
  from moments
),
binned as (
  select
    moment // (select width from width) as bin,
    -- What opens and closes at the same microsecond was open then; what ends at a moment is not open at it.
    max(after + instant) as peak,
    sum(after * (coalesce(until, moment) - moment)) as area,
    max(coalesce(until, moment)) - min(moment) as length,
    sum(opened) as opened,
    sum(closed) as closed
  from running
  group by all
)
select
  make_timestamptz(bin * (select width from width)) as time,
  peak::BIGINT as peak,
  (area / nullif(length, 0))::DOUBLE as mean,
  opened::BIGINT as opened,
  closed::BIGINT as closed
from binned
order by time;
