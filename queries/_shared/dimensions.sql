-- What traffic can be grouped by, for every query that has `--by`.
--
-- @table flows
-- @dimension pair: client_address, server_address = client_address || ' -> ' || server_address
-- @dimension client: client_address = client_address
-- @dimension server: server_address = server_address
-- @dimension service: server, server_port = endpoint(server, server_port)
-- @dimension process: process_name = coalesce(process_name, '(unknown)')
-- @dimension executable: process_executable = coalesce(process_executable, '(not recorded)')
-- @dimension container: container_id = coalesce(container_id, '(none)')
-- @dimension host: host = coalesce(host, '(unknown)')
create temp macro endpoint(address, port) as
  case when contains(address, ':') then '[' || address || ']' else address end || ':' || coalesce(port::VARCHAR, '*');
