-- Traffic, every byte once: what queries count from.
--
-- `flow` leaves out the second sighting of local traffic and holds the rows that ended inside the time window, so that
-- windows that meet share no row. `flow_overlapping` holds every row that touches the window: for queries that spread
-- rows over time. Counters are scaled up by the sampling in force. `flows` is 1 on exactly one row of every flow, so
-- its sum counts flows however many interval rows they have: the row with which the flow ended, or the last one inside
-- the window of a flow that went on. `weight` is how many flows a row stands for; `recorded(bytes, sampling_interval)`
-- is what the row itself counted, for lists of flows.
--
-- Of local traffic each end knows its own retransmits: those of the second sighting are in `flow_with_losses`, which is
-- `flow` and beside it rows that count nothing but them. Use it where losses matter and rows are not counted.
--
-- @table flows
create temp view flow_overlapping as
select
  * exclude (duplicate) replace (
    scaled(client_bytes, sampling_interval) as client_bytes,
    scaled(server_bytes, sampling_interval) as server_bytes,
    scaled(client_packets, sampling_interval) as client_packets,
    scaled(server_packets, sampling_interval) as server_packets,
    scaled(client_retransmits, sampling_interval) as client_retransmits,
    scaled(server_retransmits, sampling_interval) as server_retransmits
  ),
  coalesce(server_name, server_address) as server,
  scaled(coalesce(client_bytes, 0) + coalesce(server_bytes, 0), sampling_interval) as bytes,
  scaled(coalesce(client_packets, 0) + coalesce(server_packets, 0), sampling_interval) as packets,
  -- greatest() passes over null, as coalesce() does, and is several times as fast where many are.
  scaled(greatest(client_retransmits, 0) + greatest(server_retransmits, 0), sampling_interval) as retransmits,
  counts_the_flow(flow_end_reason, capture, flow_id, end_time)::BIGINT
    * stands_for(sampling_interval, flow_count) as flows,
  stands_for(sampling_interval, flow_count) as weight
from flows
where duplicate is not true;

create temp view flow as select * from flow_overlapping where in_window(end_time);

create temp view flow_with_losses as
select * from flow
union all by name
select
  start_time, end_time, flow_id, transport, network_type, host, source, capture, sampling_interval,
  client_address, client_port, server_address, server_port, server_name,
  'client' as role, -- as in the row that counts
  scaled(client_retransmits, sampling_interval) as client_retransmits,
  scaled(server_retransmits, sampling_interval) as server_retransmits,
  coalesce(server_name, server_address) as server,
  0 as bytes, 0 as packets, 0 as flows, 0 as weight,
  scaled(coalesce(client_retransmits, 0) + coalesce(server_retransmits, 0), sampling_interval) as retransmits
from flows
where duplicate and in_window(end_time) and (client_retransmits > 0 or server_retransmits > 0);
