-- Flows, not rows: the intervals of a flow inside the window as one row.
--
-- `session` has one row per flow of `flow`: counters summed, the `life` (microseconds) from `began` (when the flow began,
-- or what was first recorded of it) to `end_time`, and `tcp_close` null while it was open at the end of the window. Most flows have one row
-- and are passed through; only those of several rows are grouped.
--
-- @table flows
create temp view session_of_several as
select distinct capture, flow_id from flow where flow_end_reason = 'active' and flow_id is not null;

create temp view session as
select
  capture, flow_id, coalesce(flow_start_time, start_time) as began, end_time, transport, client_address, client_port,
  server_address, server_port, server, server_name, role, process_name, container_id, netns, client_bytes, server_bytes,
  bytes, client_packets, server_packets, packets, retransmits, connect_latency_us, rtt_us, rtt_min_us, flow_end_reason,
  tcp_close, alpn, http_method, http_host, http_path, http_status, time_to_first_byte_us, closed_by, source, host, flows,
  1::BIGINT as intervals, sampling_interval, weight,
  coalesce(flow_duration_us, epoch_us(end_time) - epoch_us(coalesce(flow_start_time, start_time))) as life
from flow
where not exists (
  select 1 from session_of_several as several
  where several.capture is not distinct from flow.capture and several.flow_id = flow.flow_id
)
union all by name
select
  flow.capture, flow.flow_id, min(coalesce(flow_start_time, start_time)) as began, max(flow.end_time) as end_time,
  max(transport) as transport, max(client_address) as client_address, max(client_port) as client_port,
  max(server_address) as server_address, max(server_port) as server_port, max(server) as server,
  max(server_name) as server_name, max(role) as role, max_by(process_name, flow.end_time) as process_name,
  max_by(container_id, flow.end_time) as container_id, max(netns) as netns, sum(client_bytes)::BIGINT as client_bytes,
  sum(server_bytes)::BIGINT as server_bytes, sum(bytes)::BIGINT as bytes, sum(client_packets)::BIGINT as client_packets,
  sum(server_packets)::BIGINT as server_packets, sum(packets)::BIGINT as packets,
  sum(retransmits)::BIGINT as retransmits, max(connect_latency_us) as connect_latency_us,
  max_by(rtt_us, flow.end_time) as rtt_us, min(rtt_min_us) as rtt_min_us,
  max_by(flow_end_reason, flow.end_time) as flow_end_reason, max_by(tcp_close, flow.end_time) as tcp_close,
  max(alpn) as alpn, max(http_method) as http_method, max(http_host) as http_host, max(http_path) as http_path,
  max(http_status) as http_status, max(time_to_first_byte_us) as time_to_first_byte_us, max(closed_by) as closed_by,
  max(flow.source) as source, max(host) as host, max(flows) as flows, count(*) as intervals,
  max(sampling_interval) as sampling_interval, max(weight) as weight,
  max(epoch_us(flow.end_time)) - min(epoch_us(coalesce(flow_start_time, start_time))) as life
from flow
join session_of_several as several
  on several.capture is not distinct from flow.capture and several.flow_id = flow.flow_id
group by flow.capture, flow.flow_id;
