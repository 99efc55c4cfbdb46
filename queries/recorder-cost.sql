-- What recording costs: processor time and memory of the recorder, and what it wrote.
--
-- One row per bin and host. A recorder is a guest: this shows whether it behaves as one.
--
-- @table   health
-- @param   bin duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  host VARCHAR: the observer
-- @column  cpu DOUBLE ratio: processor time of the recorder, of one core
-- @column  memory BIGINT bytes: resident memory, at most
-- @column  rows BIGINT rows: rows written
-- @column  owners_known DOUBLE ratio: rows whose process is known, of all rows written
-- @chart   line x=time y=cpu series=host
-- @example web-day bin=1h
-- @expect  2026-11-23T01:00:00Z | web1 | ... | 114335744 | 15867 | 1.0
with span as (
  select min(epoch_us(start_time)) as low, max(epoch_us(end_time)) as high from health having count(*) > 0
)
select
  make_timestamptz(epoch_us(end_time) // width * width) as time,
  coalesce(host, '(unknown)') as host,
  sum(recorder_cpu_us) / nullif(epoch_us(max(end_time)) - epoch_us(min(start_time)), 0)::DOUBLE as cpu,
  max(recorder_memory_bytes)::BIGINT as memory,
  coalesce(sum(rows_written), 0)::BIGINT as rows,
  sum(owners_known) / nullif(sum(rows_written), 0)::DOUBLE as owners_known
from health, (select bin_width($bin, low, high) as width from span)
where kind = 'interval'
group by all
order by time, host;
