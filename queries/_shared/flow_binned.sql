-- Traffic over time: rows spread over the bins that they span.
--
-- `flow_binned(width)` gives the rows of `flow_overlapping` once for every bin of `width` microseconds that they touch,
-- with `bin` (the bin's start), `bin_number` (bins since 1970: grouping by it is twice as fast) and with counters in proportion to the time that they spend in it, in whole numbers whose
-- sum over the bins is exactly the row's. What lies outside the time window is left out. `flows` counts a flow in the
-- bin in which its counted row ends.
--
-- Sum the counters: a row of `flow_binned` may take back what another one gave. Nearly every row lies in one bin and needs
-- no arithmetic. `flow_ended(width)` are all rows, each whole in the bin in which it ends; `flow_moved(width)` are the
-- parts of those that lie in several bins or are cut by the window, and their counters once more, negative, where
-- `flow_ended` has them. Sums over each, added up, take half the time of sums over both.
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

create temp macro share_or_all(counter, s, e, low, high) as
  case
    when low is null then -counter
    when s = e then counter -- a moment at the edge of two bins
    else share_between(counter, s, e, low, high)
  end;

create temp macro flow_ended(width) as table
select *, (epoch_us(end_time) - 1) // width as bin_number, make_timestamptz((epoch_us(end_time) - 1) // width * width) as bin
from flow_overlapping
where epoch_us(end_time) < window_end();

create temp macro flow_moved(width) as table
with placed as (
  select *, s // width as first_bin, greatest(s // width, ended_bin) as last_bin
  from (
    select *, epoch_us(start_time) as s, epoch_us(end_time) as e, (epoch_us(end_time) - 1) // width as ended_bin
    from flow_overlapping
  )
),
parts as (
  -- The part without a number is the row itself.
  select *, unnest(list_concat(
    range(greatest(first_bin, window_start() // width), least(last_bin, (window_end() - 1) // width) + 1),
    case when e < window_end() then [null] else [] end
  )) as part
  from placed
  where not (first_bin = ended_bin and s >= window_start() and e < window_end())
),
bounded as (
  select *, case when part is not null then greatest(part * width, window_start()) end as low,
    -- The row's end belongs to its last bin: nothing of the row may be left over.
    least((part + 1) * width, window_end()) as high
  from parts
)
select
  * exclude (s, e, first_bin, last_bin, ended_bin, part, low, high) replace (
    share_or_all(client_bytes, s, e, low, high) as client_bytes,
    share_or_all(server_bytes, s, e, low, high) as server_bytes,
    share_or_all(client_packets, s, e, low, high) as client_packets,
    share_or_all(server_packets, s, e, low, high) as server_packets,
    share_or_all(client_retransmits, s, e, low, high) as client_retransmits,
    share_or_all(server_retransmits, s, e, low, high) as server_retransmits,
    share_or_all(bytes, s, e, low, high) as bytes,
    share_or_all(packets, s, e, low, high) as packets,
    share_or_all(retransmits, s, e, low, high) as retransmits,
    case when part is null then -flows when part = last_bin and e < window_end() then flows else 0 end as flows
  ),
  coalesce(part, ended_bin) as bin_number,
  make_timestamptz(coalesce(part, ended_bin) * width) as bin
from bounded;

create temp macro flow_binned(width) as table
select * from flow_ended(width)
union all by name
select * from flow_moved(width);
