-- The traffic of a trace in one row.
--
-- The first look at a trace: how much, of how many, and how well it went.
--
-- @table   flows
-- @column  first_time TIMESTAMP WITH TIME ZONE: start of the earliest interval
-- @column  last_time TIMESTAMP WITH TIME ZONE: end of the latest interval
-- @column  flows BIGINT flows: flows, each counted once
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  client_bytes BIGINT bytes: payload bytes sent by clients
-- @column  server_bytes BIGINT bytes: payload bytes sent by servers
-- @column  rate DOUBLE bits/s: payload bits per second over the whole time, both ways
-- @column  packets BIGINT packets: packets, both ways
-- @column  retransmits BIGINT segments: segments sent again, both ways
-- @column  retransmit_ratio DOUBLE ratio: segments sent again, of all packets
-- @column  connect_failures BIGINT flows: connections that never came about
-- @column  resets BIGINT flows: connections that ended with a reset
-- @column  rtt_median DOUBLE us: median of the smoothed round-trip times, over intervals
-- @column  clients BIGINT count: client addresses
-- @column  servers BIGINT count: server addresses
-- @column  services BIGINT count: server names or addresses with their ports
-- @column  processes BIGINT count: process names
-- @column  hosts BIGINT count: hosts that recorded
-- @column  owners_known DOUBLE ratio: flows whose process is known, of all flows
-- @chart   none
select
  min(start_time) as first_time,
  max(end_time) as last_time,
  sum(flows)::BIGINT as flows,
  sum(bytes)::BIGINT as bytes,
  sum(client_bytes)::BIGINT as client_bytes,
  sum(server_bytes)::BIGINT as server_bytes,
  sum(bytes)::DOUBLE * 8e6 / nullif(epoch_us(max(end_time)) - epoch_us(min(start_time)), 0) as rate,
  sum(packets)::BIGINT as packets,
  sum(retransmits)::BIGINT as retransmits,
  sum(retransmits)::DOUBLE / nullif(sum(packets), 0) as retransmit_ratio,
  count_if(tcp_close = 'connect_failed')::BIGINT as connect_failures,
  count_if(tcp_close in ('rst_sent', 'rst_received'))::BIGINT as resets,
  approx_quantile(rtt_us, 0.5)::DOUBLE as rtt_median,
  count(distinct client_address) as clients,
  count(distinct server_address) as servers,
  count(distinct (server, server_port)) as services,
  count(distinct process_name) as processes,
  count(distinct host) as hosts,
  sum(case when process_name is not null then flows end)::DOUBLE / nullif(sum(flows), 0) as owners_known
from flow;
