-- When nothing was recorded, or less than everything: gaps, degradations and steps of the clock.
--
-- "No flow" and "not recording" are different things: this names the second.
--
-- @table   health
-- @column  start_time TIMESTAMP WITH TIME ZONE: its start
-- @column  end_time TIMESTAMP WITH TIME ZONE: its end
-- @column  length DOUBLE us: how long it was
-- @column  kind VARCHAR: gap, degraded, restored or clock_step
-- @column  reason VARCHAR: why
-- @column  host VARCHAR: the observer
-- @column  source VARCHAR: what should have recorded
-- @chart   bar x=length y=reason
-- @example gateway
-- @expect  2026-11-24T18:10:34.144959Z | 2026-11-24T18:10:38.109743Z | 3964784.0 | gap | ... | web1 | ebpf
select
  start_time,
  end_time,
  (epoch_us(end_time) - epoch_us(start_time))::DOUBLE as length,
  kind,
  reason,
  host,
  source
from health
where kind <> 'interval'
order by start_time, end_time, kind, reason, host, source;
