-- Every sighting of every flow, also the second ones that `flow` leaves out.
--
-- A session that passes a proxy is seen more than once: by the proxy, and by the kernel at each of the proxy's sockets.
-- `sighting` has one line for each flow and source, its intervals stitched, as far as they touch the time window.
--
-- @table flows
create temp view sighting as
select
  capture, source, flow_id,
  min(coalesce(flow_start_time, start_time)) as start_time,
  max(end_time) as end_time,
  any_value(client_address) as client_address, any_value(client_port) as client_port,
  any_value(server_address) as server_address, any_value(server_port) as server_port,
  any_value(role) as role, any_value(netns) as netns,
  sum(client_bytes)::BIGINT as client_bytes, sum(server_bytes)::BIGINT as server_bytes,
  sum(client_retransmits)::BIGINT as client_retransmits, sum(server_retransmits)::BIGINT as server_retransmits,
  max(connect_latency_us) as connect_latency_us, max(time_to_first_byte_us) as time_to_first_byte_us,
  arg_max(rtt_us, end_time) as rtt_us,
  max(process_name) as process_name, max(process_pid) as process_pid,
  max(server_name) as server_name, max(tls_version) as tls_version, max(alpn) as alpn,
  max(http_method) as http_method, max(http_host) as http_host, max(http_path) as http_path,
  max(http_status) as http_status, max(tcp_close) as tcp_close, max(closed_by) as closed_by
from flows
where transport = 'tcp' and flow_id is not null
group by capture, source, flow_id;
