-- Where segments are sent again: loss by path and direction.
--
-- A path is a client and a server address. Loss on one path points to the network between the two; on all paths of a host,
-- to the host. Where both ends of a connection were recorded here, each row tells of its own side: both are counted.
--
-- @table   flows
-- @param   by dimension(pair, client, server, service, process, container, host) = pair: what to group by
-- @param   n  integer = 20: rows to show, most retransmits first
-- @column  path VARCHAR: what the traffic is grouped by
-- @column  packets BIGINT packets: packets, both ways
-- @column  client_retransmits BIGINT segments: sent again by the client; empty where it cannot be seen
-- @column  server_retransmits BIGINT segments: sent again by the server; empty where it cannot be seen
-- @column  retransmits BIGINT segments: both
-- @column  ratio DOUBLE ratio: segments sent again, of all packets
-- @column  flows BIGINT flows: flows
-- @column  flows_with BIGINT flows: flows that had any
-- @column  rtt_min BIGINT us: the least round-trip time
-- @chart   bar x=retransmits y=path
-- @example service-regressed by=client n=1
-- @expect  10.31.3.1 | 65409 | 2391 | 731 | 3122 | ... | 2822 | 1045 | 7
with own as (
  select
    * replace (
      scaled(client_retransmits, sampling_interval) as client_retransmits,
      scaled(server_retransmits, sampling_interval) as server_retransmits
    ),
    coalesce(server_name, server_address) as server,
    scaled(coalesce(client_packets, 0) + coalesce(server_packets, 0), sampling_interval) as packets,
    counts_the_flow(flow_end_reason, capture, flow_id, end_time)::BIGINT * stands_for(sampling_interval, flow_count)
      as flows
  from flows
  where in_window(end_time)
),
grouped as (
  select
    {by.keys},
    sum(packets) filter (where duplicate is not true) as packets,
    sum(client_retransmits) as client_retransmits,
    sum(server_retransmits) as server_retransmits,
    coalesce(sum(client_retransmits), 0) + coalesce(sum(server_retransmits), 0) as retransmits,
    sum(flows) filter (where duplicate is not true) as flows,
    count(distinct case
      when client_retransmits > 0 or server_retransmits > 0 then (capture, client_address, client_port, server_port)
    end) as flows_with,
    min(rtt_min_us) as rtt_min
  from own
  group by {by.keys}
)
select
  {by.label} as path,
  packets::BIGINT as packets,
  client_retransmits::BIGINT as client_retransmits,
  server_retransmits::BIGINT as server_retransmits,
  coalesce(retransmits, 0)::BIGINT as retransmits,
  retransmits::DOUBLE / nullif(packets, 0) as ratio,
  flows::BIGINT as flows,
  flows_with,
  rtt_min
from grouped
order by retransmits desc, packets desc, path
limit $n;
