-- How long connections waited until their server accepted them.
--
-- When clients see slow connections and the server's own log shows none: the wait before accept is in neither. The rows
-- are those of the program accept_latency: netrec record --program accept_latency.
--
-- @table   accept_latency
-- @param   n          integer = 20: rows to show
-- @column  service    VARCHAR: address and port that was listened to
-- @column  process    VARCHAR: process that accepted
-- @column  accepted   BIGINT count: connections accepted
-- @column  median_us  BIGINT us: half of them waited no longer
-- @column  p99_us     BIGINT us: 99 of 100 waited no longer
-- @column  longest_us BIGINT us: the longest wait
-- @column  latest     TIMESTAMP WITH TIME ZONE: when the longest wait ended
-- @chart   bar x=p99_us y=service
-- @example own-programs
-- @expect  10.38.1.2 8000 | python | 476 | 1523 | 6296456 | 6461055 | 2026-11-24T11:59:15.551400Z
-- @expect  10.38.1.2 80 | nginx | 650 | 107 | 42600
with shown as (
  select
    coalesce(server_address, '?') || ' ' || server_port as service,
    coalesce(process_name, '?') as process,
    count(*)::BIGINT as accepted,
    (quantile_disc(delay_ns, 0.5) // 1000)::BIGINT as median_us,
    (quantile_disc(delay_ns, 0.99) // 1000)::BIGINT as p99_us,
    (max(delay_ns) // 1000)::BIGINT as longest_us,
    arg_max(time, (delay_ns, time)) as latest
  from accept_latency
  group by all
)
select *
from shown
order by p99_us desc, longest_us desc, accepted desc, service, process
limit $n;
