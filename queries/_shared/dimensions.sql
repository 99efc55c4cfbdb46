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
-- The network of an address: the /24 of an IPv4 address, the /64 of an IPv6 one, written out.
create temp macro network_of(address) as
  case
    when not contains(address, ':') then regexp_replace(address, '[0-9]+$', '0/24')
    else array_to_string(
      string_split(
        case when starts_with(address, ':') then '0' else '' end
        || replace(address, '::', ':' || repeat('0:', 8 - length(address) + length(replace(address, ':', '')))),
        ':')[:4],
      ':') || '::/64'
  end;
