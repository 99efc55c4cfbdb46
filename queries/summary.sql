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
-- @example web-day
-- @expect  2026-11-23T01:45:03.289956Z | 2026-11-23T01:46:17.066971Z | 896 | 64906893 | 83589 | 64823304 | ... | 56278 | 0 | 0.0 | 23 | 0 | 30.0 | 41 | 5 | 5 | 3 | 1 | 1.0
with total as (
  select
    min(start_time) as first_time,
    max(end_time) as last_time,
    coalesce(sum(flows), 0) as flows,
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    coalesce(sum(client_packets), 0) + coalesce(sum(server_packets), 0) as packets,
    coalesce(sum(client_retransmits), 0) + coalesce(sum(server_retransmits), 0) as retransmits,
    tally(tcp_close = 'connect_failed', weight) as connect_failures,
    tally(tcp_close in ('rst_sent', 'rst_received'), weight) as resets,
    count(*) as intervals
  from flow
),
-- What is counted once each is grouped first, each on its own: several count(distinct) together take five times as long.
by_process as (
  select process_name, sum(flows) as flows from flow group by process_name
),
by_service as (
  select server_address, coalesce(server_name, server_address) as server, server_port
  from flow
  group by server_name, server_address, server_port
),
by_rtt as (
  select rtt_us, tally(true, weight) as intervals from flow where rtt_us is not null group by rtt_us
),
reached as (
  select rtt_us, sum(intervals) over (order by rtt_us) as below, sum(intervals) over () as every from by_rtt
)
select
  first_time,
  last_time,
  case when intervals > 0 then flows end::BIGINT as flows,
  case when intervals > 0 then coalesce(client_bytes, 0) + coalesce(server_bytes, 0) end::BIGINT as bytes,
  client_bytes::BIGINT as client_bytes,
  server_bytes::BIGINT as server_bytes,
  (coalesce(client_bytes, 0) + coalesce(server_bytes, 0))::DOUBLE * 8e6
    / nullif(epoch_us(last_time) - epoch_us(first_time), 0) as rate,
  case when intervals > 0 then packets end::BIGINT as packets,
  case when intervals > 0 then retransmits end::BIGINT as retransmits,
  retransmits::DOUBLE / nullif(packets, 0) as retransmit_ratio,
  connect_failures::BIGINT as connect_failures,
  resets::BIGINT as resets,
  (select min(rtt_us) from reached where below * 2 >= every)::DOUBLE as rtt_median,
  (select count(client_address) from (select distinct client_address from flow)) as clients,
  (select count(distinct server_address) from by_service) as servers,
  (select count(*) from (select distinct server, server_port from by_service)) as services,
  (select count(process_name) from by_process) as processes,
  (select count(host) from (select distinct host from flow)) as hosts,
  (select sum(flows) from by_process where process_name is not null)::DOUBLE / nullif(flows, 0) as owners_known
from total;
