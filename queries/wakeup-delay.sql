-- Which processes had to wait for a processor after a packet had woken them.
--
-- When a server answers late though its packets came in time: the host had no processor for it. Only waits of 0.1 ms or
-- more are recorded. The rows are those of the program network_wakeups: netrec record --program network_wakeups.
--
-- @table   network_wakeups
-- @param   n          integer = 20: rows to show
-- @column  process    VARCHAR: process that waited
-- @column  waits      BIGINT count: waits of 0.1 ms or more
-- @column  total_us   BIGINT us: all of them together
-- @column  median_us  BIGINT us: half of them were no longer
-- @column  p99_us     BIGINT us: 99 of 100 were no longer
-- @column  longest_us BIGINT us: the longest
-- @column  latest     TIMESTAMP WITH TIME ZONE: when the longest ended
-- @chart   bar x=total_us y=process
-- @example own-programs n=2
-- @expect  python | 1653 | 7715597 | 1078 | 70360 | 220742
-- @expect  nginx | 484 | 1798896
with shown as (
  select
    coalesce(process_name, '?') as process,
    count(*)::BIGINT as waits,
    (sum(delay_ns) // 1000)::BIGINT as total_us,
    (quantile_disc(delay_ns, 0.5) // 1000)::BIGINT as median_us,
    (quantile_disc(delay_ns, 0.99) // 1000)::BIGINT as p99_us,
    (max(delay_ns) // 1000)::BIGINT as longest_us,
    arg_max(time, (delay_ns, time)) as latest
  from network_wakeups
  group by all
)
select *
from shown
order by total_us desc, waits desc, process
limit $n;
