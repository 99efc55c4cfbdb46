-- Who depends on whom: every client, the services that it calls, and how well that goes.
--
-- An edge is a client, the process that called (where it is known) and a service. Before a change or after an outage: what
-- breaks when this service stops? As a drawing: `--format graphviz | dot -Tsvg`, or `--format mermaid` for a wiki page.
--
-- @table   flows
-- @param   n integer = 100: edges to show, busiest first (0: all)
-- @column  client VARCHAR: name or address of the client
-- @column  server VARCHAR: name or address of the server
-- @column  port INTEGER: server port
-- @column  transport VARCHAR: tcp, udp, ...
-- @column  process VARCHAR: the client's process, where the client was recorded
-- @column  flows BIGINT flows: flows
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  failures BIGINT flows: connections that never came about
-- @column  failure_ratio DOUBLE ratio: those of all flows
-- @column  retransmits BIGINT segments: segments sent again, both ways
-- @chart   graph x=client y=server label=port size=bytes
-- @example web-day n=2
-- @expect  10.20.2.1 | 10.20.2.1 | 8000 | tcp | nginx | 200 | 390108 | 23 | 0.115
-- @expect  10.20.1.100 | 10.20.1.2 | 80 | tcp | python | 168 | 993743 | 0 | 0.0
select
  coalesce(client_name, client_address) as client,
  server,
  server_port as port,
  transport,
  case when role in ('client', 'both') then process_name end as process,
  sum(flows)::BIGINT as flows,
  sum(bytes)::BIGINT as bytes,
  coalesce(sum(flows) filter (where tcp_close = 'connect_failed'), 0)::BIGINT as failures,
  coalesce(sum(flows) filter (where tcp_close = 'connect_failed'), 0)::DOUBLE / nullif(sum(flows), 0) as failure_ratio,
  coalesce(sum(retransmits), 0)::BIGINT as retransmits
from flow
group by all
order by flows desc, bytes desc, client, server, port, transport, process
limit case when $n = 0 then 9223372036854775807 else $n end;
