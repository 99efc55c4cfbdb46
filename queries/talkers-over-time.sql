-- The biggest talkers over time: who made the peak.
--
-- Bytes per bin of each of the largest, and of all others together. A row of the trace that spans bins is spread over them.
--
-- @table   flows
-- @param   by  dimension(pair, client, server, service, process, container, host) = process: what to group by
-- @param   bin duration = none: width of a bin, aligned to the clock (default: about 60 bins)
-- @param   n   integer = 5: talkers to show; the others are one
-- @column  time TIMESTAMP WITH TIME ZONE: start of the bin
-- @column  talker VARCHAR: what the traffic is grouped by
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  rate DOUBLE bits/s: those per second over the bin
-- @column  share DOUBLE ratio: of the bin's bytes
-- @chart   area x=time y=rate series=talker
-- @example web-day bin=1m n=1
-- @expect  2026-11-23T01:45:00Z | curl | 60000324
-- @expect  2026-11-23T01:45:00Z | (other) | 3814631
with span as (
  select
    greatest(epoch_us(min(start_time)), window_start()) as low, least(epoch_us(max(end_time)), window_end() - 1) as high
  from flow_overlapping
  having count(*) > 0
),
width as (
  select bin_width($bin, low, high) as width from span
),
grouped as (
  select bin, {by.keys}, coalesce(sum(bytes), 0) as bytes
  from flow_binned((select width from width))
  group by bin, {by.keys}
),
named as (
  select bin, {by.label} as talker, bytes from grouped
),
ranked as (
  select talker, row_number() over (order by sum(bytes) desc, talker) as place from named group by talker
),
shown as (
  select
    bin, case when place <= $n then talker else '(other)' end as talker, least(place, $n + 1) as place,
    sum(bytes) as bytes
  from named join ranked using (talker)
  group by all
)
select
  bin as time,
  talker,
  bytes::BIGINT as bytes,
  bytes * 8e6 / (select width from width)::DOUBLE as rate,
  bytes / nullif(sum(bytes) over (partition by bin), 0)::DOUBLE as share
from shown
order by time, place;
