-- What the recorder lost, and where: whether the other answers can be trusted.
--
-- One row per bin. Losses are counted by the recorder itself: in the ring buffer (it was too slow), in the kernel's map of
-- flows (it was too small), in the kernel, or on a full disk.
--
-- @table   health
-- @param   bin duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  host VARCHAR: the observer
-- @column  source VARCHAR: what recorded
-- @column  seen BIGINT events: records that left the kernel
-- @column  lost BIGINT events: records lost
-- @column  ratio DOUBLE ratio: lost of all
-- @column  lost_in_ring BIGINT events: because the ring buffer was full
-- @column  lost_in_map BIGINT events: because the map of flows was full
-- @column  lost_in_kernel BIGINT events: skipped by the kernel
-- @column  lost_on_disk BIGINT events: because the disk was full
-- @column  map_use DOUBLE ratio: fill of the map of flows, at most
-- @column  ring_use DOUBLE ratio: fill of the ring buffer, at most
-- @column  sampling BIGINT: 1 in this many flows was recorded (1: all)
-- @chart   line x=time y=lost series=host
-- @example web-day bin=1h
-- @expect  2026-11-23T01:00:00Z | web1 | ebpf | 15844 | 0 | 0.0 | 0 | 0 | 0
with span as (
  select min(epoch_us(start_time)) as low, max(epoch_us(end_time)) as high from health having count(*) > 0
)
select
  make_timestamptz(epoch_us(end_time) // width * width) as time,
  coalesce(host, '(unknown)') as host,
  source,
  coalesce(sum(events_seen), 0)::BIGINT as seen,
  coalesce(sum(events_lost), 0)::BIGINT as lost,
  sum(events_lost) / nullif(sum(events_seen) + sum(events_lost), 0)::DOUBLE as ratio,
  coalesce(sum(lost_in_ring), 0)::BIGINT as lost_in_ring,
  coalesce(sum(lost_in_map), 0)::BIGINT as lost_in_map,
  coalesce(sum(lost_in_kernel), 0)::BIGINT as lost_in_kernel,
  coalesce(sum(lost_on_disk), 0)::BIGINT as lost_on_disk,
  max(map_used / nullif(map_limit, 0)::DOUBLE) as map_use,
  max(ring_used / nullif(ring_limit, 0)::DOUBLE) as ring_use,
  max(coalesce(sampling_interval, 1)) as sampling
from health, (select bin_width($bin, low, high) as width from span)
where kind <> 'gap'
group by all
order by time, host, source;
