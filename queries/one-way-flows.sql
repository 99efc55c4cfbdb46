-- Flows in which only one side is heard: asymmetric routes, silent drops, unanswered datagrams.
--
-- A flow with packets in one direction only. Many of them towards one service: it does not answer. Everywhere on a gateway:
-- the way back goes elsewhere.
--
-- @table   flows
-- @param   n integer = 20: rows to show, most flows first
-- @column  client VARCHAR: client address
-- @column  service VARCHAR: server name or address, and port
-- @column  transport VARCHAR: tcp, udp, ...
-- @column  heard VARCHAR: the side that was heard
-- @column  flows BIGINT flows: flows with one side only
-- @column  packets BIGINT packets: packets of that side
-- @column  share DOUBLE ratio: of all flows from this client to this service
-- @column  failed BIGINT flows: of them, connections that never came about
-- @chart   bar x=flows y=service
-- @example gateway
-- @expect  10.39.1.1 | 10.39.2.2:514 | udp | client | 8 | 8 | 1.0 | 0
with sides as (
  select
    client_address, server, server_port, transport, flows, packets, tcp_close,
    case
      when client_packets > 0 and server_packets = 0 then 'client'
      when client_packets = 0 and server_packets > 0 then 'server'
    end as heard
  from session
),
grouped as (
  select
    client_address, server, server_port, transport, heard, sum(flows) as flows, sum(packets) as packets,
    coalesce(sum(flows) filter (where tcp_close = 'connect_failed'), 0) as failed
  from sides
  group by all
),
totalled as (
  select *, sum(flows) over (partition by client_address, server, server_port, transport) as total from grouped
)
select
  client_address as client,
  endpoint(server, server_port) as service,
  transport,
  heard,
  flows::BIGINT as flows,
  packets::BIGINT as packets,
  flows / nullif(total, 0)::DOUBLE as share,
  failed::BIGINT as failed
from totalled
where heard is not null
order by flows desc, client, service, transport, heard
limit $n;
