-- The flows themselves, one line each.
--
-- One line is an interval of a flow, as recorded; with `--sessions` the intervals of a flow are stitched into one line.
-- Narrow with `--filter` and `--since`; `-n 0` shows all.
--
-- @table   flows
-- @param   order choice(time, bytes, duration, retransmits, rtt) = time: earliest first, or the largest first
-- @param   n     integer = 100: rows to show (0: all)
-- @param   sessions boolean = false: one line per flow instead of one per interval
-- @column  start_time TIMESTAMP WITH TIME ZONE: when the interval (or what was recorded of the flow) began
-- @column  duration DOUBLE us: how long it lasted
-- @column  client VARCHAR: initiator
-- @column  server VARCHAR: responder
-- @column  server_name VARCHAR: name of the server, where it is known
-- @column  transport VARCHAR: tcp, udp, ...
-- @column  process VARCHAR: owner's command name
-- @column  client_bytes BIGINT bytes: payload bytes sent by the client
-- @column  server_bytes BIGINT bytes: payload bytes sent by the server
-- @column  retransmits BIGINT segments: segments sent again, both ways
-- @column  rtt DOUBLE us: smoothed round-trip time at the end
-- @column  end_reason VARCHAR: why the (last) interval ended
-- @column  close VARCHAR: how the connection ended
-- @column  intervals BIGINT rows: interval rows in this line
-- @column  flow_id BIGINT: the flow, unique within its capture
-- @column  capture VARCHAR: the capture
-- @chart   none
-- @example web-day order=bytes n=2
-- @expect  2026-11-23T01:45:09.592500Z | 10759504.0 | 10.20.3.1:39278 | 10.20.3.2:80 |  | tcp | curl | 83 | 34630025 | 0 | 51.0 | active |  | 1
-- @expect  2026-11-23T01:45:20.352004Z | 9988007.0 | 10.20.3.1:39278 | 10.20.3.2:80 |  | tcp | curl | 0 | 20713512 | 0 | 51.0 | active |  | 1
-- @example web-day order=bytes n=1 sessions=true
-- @expect  2026-11-23T01:45:09.592500Z | 27540843.0 | 10.20.3.1:39278 | 10.20.3.2:80 |  | tcp | curl | 83 | 60000241 | 0 | 71.0 | end | fin | 3
with single as (
  select
    start_time, end_time, client_address, client_port, server_address, server_port, server_name, transport, process_name,
    recorded(client_bytes, sampling_interval) as client_bytes, recorded(server_bytes, sampling_interval) as server_bytes,
    recorded(retransmits, sampling_interval) as retransmits, rtt_us, flow_end_reason, tcp_close, 1::BIGINT as intervals, flow_id, capture
  from flow
  where not $sessions or flow_id is null
),
stitched as (
  select
    min(start_time) as start_time,
    max(end_time) as end_time,
    max(client_address) as client_address,
    max(client_port) as client_port,
    max(server_address) as server_address,
    max(server_port) as server_port,
    max(server_name) as server_name,
    max(transport) as transport,
    max_by(process_name, end_time) as process_name,
    sum(recorded(client_bytes, sampling_interval))::BIGINT as client_bytes,
    sum(recorded(server_bytes, sampling_interval))::BIGINT as server_bytes,
    sum(recorded(retransmits, sampling_interval))::BIGINT as retransmits,
    max_by(rtt_us, end_time) as rtt_us,
    max_by(flow_end_reason, end_time) as flow_end_reason,
    max_by(tcp_close, end_time) as tcp_close,
    count(*) as intervals,
    flow_id,
    capture
  from flow
  where $sessions and flow_id is not null
  group by capture, flow_id
),
listed as (
  select * from single
  union all by name
  select * from stitched
)
select
  start_time,
  (epoch_us(end_time) - epoch_us(start_time))::DOUBLE as duration,
  endpoint(client_address, client_port) as client,
  endpoint(server_address, server_port) as server,
  server_name,
  transport,
  process_name as process,
  client_bytes,
  server_bytes,
  retransmits,
  rtt_us::DOUBLE as rtt,
  flow_end_reason as end_reason,
  tcp_close as close,
  intervals,
  flow_id,
  capture
from listed
order by
  case $order
    when 'time' then -epoch_us(start_time)
    when 'bytes' then coalesce(client_bytes, 0) + coalesce(server_bytes, 0)
    when 'duration' then epoch_us(end_time) - epoch_us(start_time)
    when 'retransmits' then retransmits
    else rtt_us
  end desc nulls last,
  start_time, end_time, client, server, capture, flow_id, client_bytes, server_bytes, process
limit case when $n = 0 then 9223372036854775807 else $n end;
