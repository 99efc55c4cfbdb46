-- Which processes of a host talk to each other, across network namespaces and containers.
--
-- Connections whose two ends were both recorded on one host, joined: the client's row names the one process, the server's
-- row the other. What leaves the host or comes from outside is in `service-map`.
--
-- @table   flows
-- @param   n integer = 50: edges to show, most bytes first
-- @column  client_process VARCHAR: the process that connected
-- @column  server_process VARCHAR: the process that accepted
-- @column  port INTEGER: server port
-- @column  client_namespace BIGINT: inode of the client's network namespace
-- @column  server_namespace BIGINT: inode of the server's network namespace
-- @column  client_container VARCHAR: the client's container
-- @column  server_container VARCHAR: the server's container
-- @column  flows BIGINT flows: connections
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @chart   graph x=client_process y=server_process label=port size=bytes
-- @example web-day
-- @expect  curl | nginx | 80 | 4026532384 | 4026532246 |  |  | 1 | 60000324
-- @expect  python | nginx | 80 | 4026532177 | 4026532246 |  |  | 693 | 4149026
with accepted as (
  select
    capture, client_address, client_port, server_address, server_port, transport,
    max_by(process_name, end_time) as process_name, max_by(netns, end_time) as netns,
    max_by(container_id, end_time) as container_id
  from flows
  where duplicate and in_window(end_time)
  group by all
)
select
  coalesce(called.process_name, '(unknown)') as client_process,
  coalesce(accepted.process_name, '(unknown)') as server_process,
  called.server_port as port,
  called.netns as client_namespace,
  accepted.netns as server_namespace,
  called.container_id as client_container,
  accepted.container_id as server_container,
  sum(called.flows)::BIGINT as flows,
  sum(called.bytes)::BIGINT as bytes
from flow as called
join accepted using (capture, client_address, client_port, server_address, server_port, transport)
group by all
order by bytes desc, flows desc, client_process, server_process, port, client_namespace, server_namespace,
  client_container, server_container
limit $n;
