-- Which paths made senders cut their TCP congestion window, how often and how deep.
--
-- When a transfer is slow and nothing is busy: losses keep the window small. Loss is a timeout, Recovery a loss that the
-- receiver reported, CWR a warning (ECN, or a full queue of this host). The rows are those of the program
-- window_collapses: netrec record --program window_collapses.
--
-- @table   window_collapses
-- @param   n           integer = 20: rows to show
-- @column  path        VARCHAR: sender and receiver
-- @column  reason      VARCHAR: state entered, by the kernel's name
-- @column  collapses   BIGINT count: how often
-- @column  connections BIGINT count: connections that it happened to
-- @column  before      BIGINT segments: window before, the median
-- @column  after       BIGINT segments: where the reduction ends (Loss: the window at once), the median; null with BBR
-- @column  rtt_us      BIGINT us: smoothed round-trip time, the median
-- @chart   bar x=collapses y=path
-- @example own-programs n=2
-- @expect  10.38.3.1 -> 10.38.1.2 | Recovery | 47 | 45 | 20 | ... | 53
-- @expect  10.38.3.1 -> 10.38.1.2 | Loss | 26 | 26 | 10 | 1
with shown as (
  select
    coalesce(local_address, '?') || ' -> ' || coalesce(remote_address, '?') as path,
    replace(reason, 'TCP_CA_', '') as reason,
    count(*)::BIGINT as collapses,
    count(distinct (netns, local_port, remote_port))::BIGINT as connections,
    quantile_disc(window_before, 0.5)::BIGINT as before,
    quantile_disc(case when reason = 'TCP_CA_Loss' then "window" else nullif(threshold, 0) end, 0.5)::BIGINT as after,
    quantile_disc(rtt_us, 0.5)::BIGINT as rtt_us
  from window_collapses
  group by all
)
select *
from shown
order by collapses desc, path, reason
limit $n;
