-- Services that nobody has called for a while: what could be switched off, or has been cut off.
--
-- Services whose last traffic lies furthest back from the end of the window. Only what was called at least once in it is
-- known: name a longer window to find more.
--
-- @table   flows
-- @param   idle duration = none: only services without traffic for at least this long
-- @param   n integer = 20: rows to show, longest idle first
-- @column  service VARCHAR: server name or address, and port
-- @column  last_time TIMESTAMP WITH TIME ZONE: its last traffic
-- @column  idle DOUBLE us: from then to the last traffic of all
-- @column  flows BIGINT flows: flows before
-- @column  clients BIGINT count: client addresses before
-- @column  bytes BIGINT bytes: payload bytes before, both ways
-- @chart   bar x=idle y=service
-- @example web-day n=1
-- @expect  10.20.3.2:80 | 2026-11-23T01:45:37.133343Z | ... | 1 | 1 | 60000324
with grouped as (
  select
    server, server_port, max(end_time) filter (where packets > 0 or bytes > 0) as last_time, sum(flows)::BIGINT as flows,
    count(distinct client_address) as clients, coalesce(sum(bytes), 0)::BIGINT as bytes
  from flow
  group by all
)
select
  endpoint(server, server_port) as service,
  last_time,
  (epoch_us((select max(last_time) from grouped)) - epoch_us(last_time))::DOUBLE as idle,
  flows,
  clients,
  bytes
from grouped
where epoch_us((select max(last_time) from grouped)) - epoch_us(last_time) >= coalesce($idle, 0)
order by idle desc, service
limit $n;
