-- Ephemeral ports: who comes near to running out of them.
--
-- A client that closes first keeps each local port for 60 s (TIME_WAIT) towards one service, and has 28,232 of them by
-- default (net.ipv4.ip_local_port_range). Counted: the ports in use or waiting at the busiest moment.
--
-- @table   flows
-- @param   wait duration = 60s: how long a port stays in use after the end
-- @param   ports integer = 28232: ports that a client has
-- @param   n integer = 20: rows to show, most ports first
-- @column  client VARCHAR: client address
-- @column  service VARCHAR: server name or address, and port
-- @column  process VARCHAR: a process of the client
-- @column  peak BIGINT count: ports in use at once, at most
-- @column  peak_time TIMESTAMP WITH TIME ZONE: when that was
-- @column  use DOUBLE ratio: of the ports that a client has
-- @column  connections BIGINT flows: connections
-- @column  ceiling DOUBLE flows/s: connections per second at which the ports run out
-- @chart   bar x=use y=client
-- @example web-day n=1
-- @expect  10.20.2.1 | 10.20.2.1:8000 | nginx | 195 | 2026-11-23T01:46:15.446520Z | ... | 200
with connected as (
  select client_address, server_address, server_port, process_name, epoch_us(began) as low, epoch_us(end_time) + $wait as high,
    flows
  from session
  where transport = 'tcp' and role is distinct from 'server'
),
changes as (
  select client_address, server_address, server_port, low as moment, flows as change from connected
  union all
  select client_address, server_address, server_port, high as moment, -flows as change from connected
),
counted as (
  select
    client_address, server_address, server_port, moment,
    sum(change) over (
      partition by client_address, server_address, server_port order by moment, change
      rows between unbounded preceding and current row
    ) as used
  from changes
),
peaks as (
  select client_address, server_address, server_port, max(used) as peak, arg_max(moment, (used, -moment)) as moment
  from counted
  group by all
),
totals as (
  select client_address, server_address, server_port, max(process_name) as process, sum(flows) as flows
  from connected
  group by all
)
select
  client_address as client,
  endpoint(server_address, server_port) as service,
  process,
  peak::BIGINT as peak,
  make_timestamptz(moment) as peak_time,
  peak / nullif($ports, 0)::DOUBLE as use,
  flows::BIGINT as connections,
  $ports * 1e6 / nullif($wait, 0)::DOUBLE as ceiling
from peaks join totals using (client_address, server_address, server_port)
order by peak desc, client, service
limit $n;
