-- Events over time, by kind: when it began, and what came first.
--
-- One row per bin and kind. Set beside `timeline`: did the traffic change before the events, or after?
--
-- @table   events
-- @param   bin duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @param   kind text = none: only this kind
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  kind VARCHAR: kind of event
-- @column  events BIGINT events: how many
-- @chart   area x=time y=events series=kind
-- @example own-programs bin=30s
-- @expect  2026-11-24T11:58:30Z | dns_failure | 13
-- @expect  2026-11-24T11:58:30Z | dns_query | 311
-- @expect  2026-11-24T11:58:30Z | drop | 217
with span as (
  select min(epoch_us("time")) as low, max(epoch_us("time")) as high from events having count(*) > 0
)
select
  make_timestamptz(epoch_us("time") // width * width) as "time",
  kind,
  sum(coalesce("count", 1))::BIGINT as events
from events, (select bin_width($bin, low, high) as width from span)
where $kind is null or kind = $kind
group by all
order by all;
