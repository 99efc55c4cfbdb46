-- Traffic over time: rows spread over the bins that they span.
--
-- `flow_binned(width)` gives the rows of `flow_overlapping` once for every bin of `width` microseconds that they touch,
-- with `bin` (the bin's start), `bin_number` (bins since 1970: grouping by it is twice as fast) and with counters in proportion to the time that they spend in it, in whole numbers whose
-- sum over the bins is exactly the row's. What lies outside the time window is left out. `flows` counts a flow in the
-- bin in which its counted row ends.
--
-- Nearly every row lies in one bin and inside the window, and needs no arithmetic: `flow_whole(width)` are those, and
-- `flow_spread(width)` the parts of the others. Sums over each, added up, take half the time of sums over both.
--
-- `share_between(counter, s, e, low, high)` is the part of a counter over [s, e] that falls into [low, high), all in
-- microseconds: the difference of two running totals, so that neighbouring parts add up without a rest.
--
-- @table flows
create temp macro running_total(counter, s, e, moment) as
  case
    when moment >= e then counter
    when moment <= s then 0
    else (counter::HUGEINT * (moment - s) // (e - s))::BIGINT
  end;

create temp macro share_between(counter, s, e, low, high) as
  running_total(counter, s, e, high) - running_total(counter, s, e, low);

create temp macro bin_of(moment, width) as make_timestamptz(moment // width * width);

create temp macro flow_placed(width) as table
select *, s // width as first_bin, greatest(s, e - 1) // width as last_bin
from (select *, epoch_us(start_time) as s, epoch_us(end_time) as e from flow_overlapping);

create temp macro flow_whole(width) as table
select * exclude (s, e, first_bin, last_bin), last_bin as bin_number, make_timestamptz(last_bin * width) as bin
from flow_placed(width)
where first_bin = last_bin and s >= window_start() and (e < window_end() or e = s);

create temp macro flow_spread(width) as table
with parts as (
  select *, unnest(range(
    greatest(first_bin, window_start() // width), least(last_bin, (window_end() - 1) // width) + 1
  )) as part
  from flow_placed(width)
  where not (first_bin = last_bin and s >= window_start() and (e < window_end() or e = s))
),
bounded as (
  select *, greatest(part * width, window_start()) as low,
    -- The row's end belongs to its last bin: nothing of the row may be left over.
    least((part + 1) * width, window_end()) as high
  from parts
)
select
  * exclude (s, e, first_bin, last_bin, part, low, high) replace (
    share_between(client_bytes, s, e, low, high) as client_bytes,
    share_between(server_bytes, s, e, low, high) as server_bytes,
    share_between(client_packets, s, e, low, high) as client_packets,
    share_between(server_packets, s, e, low, high) as server_packets,
    share_between(client_retransmits, s, e, low, high) as client_retransmits,
    share_between(server_retransmits, s, e, low, high) as server_retransmits,
    share_between(bytes, s, e, low, high) as bytes,
    share_between(packets, s, e, low, high) as packets,
    share_between(retransmits, s, e, low, high) as retransmits,
    case when part = last_bin and e < window_end() then flows else 0 end as flows
  ),
  part as bin_number,
  make_timestamptz(part * width) as bin
from bounded;

create temp macro flow_binned(width) as table
select * from flow_whole(width)
union all by name
select * from flow_spread(width);
