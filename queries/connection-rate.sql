-- Connections opened over time, and how bursty they come.
--
-- The rate over a bin hides bursts: `peak` is the busiest second of the bin. A service's accept queue and a firewall's
-- connection tracking meet the peak, not the mean.
--
-- @table   flows
-- @param   bin duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  connections BIGINT flows: flows that began
-- @column  rate DOUBLE flows/s: flows that began per second, over the bin
-- @column  peak BIGINT flows: most that began within one second
-- @column  failures BIGINT flows: of them, connections that never came about
-- @chart   line x=time y=rate
-- @example web-day bin=15s
-- @expect  2026-11-23T01:45:00Z | 30 | 2.0 | 4 | 0
-- @expect  2026-11-23T01:45:15Z | 84 | 5.6 | 15 | 0
with opened as (
  select epoch_us(began) as moment, flows, tcp_close from session where in_window(began)
),
span as (
  select min(moment) as low, max(moment) as high from opened having count(*) > 0
),
width as (
  select bin_width($bin, low, high) as width from span
),
seconds as (
  select
    moment // (select width from width) as bin, moment // 1000000 as second, sum(flows) as flows,
    coalesce(sum(flows) filter (where tcp_close = 'connect_failed'), 0) as failures
  from opened
  group by all
),
binned as (
  select bin, sum(flows) as flows, max(flows) as peak, sum(failures) as failures from seconds group by bin
),
every_bin as (
  select unnest(range(low // width, high // width + 1)) as bin from span, width
)
select
  make_timestamptz(bin * (select width from width)) as time,
  coalesce(flows, 0)::BIGINT as connections,
  coalesce(flows, 0) * 1e6 / (select width from width)::DOUBLE as rate,
  coalesce(peak, 0)::BIGINT as peak,
  coalesce(failures, 0)::BIGINT as failures
from every_bin left join binned using (bin)
order by time;
