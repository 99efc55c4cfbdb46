-- The few flows that carry most of the bytes.
--
-- One bulk copy can fill a link: what it is, how fast it goes, and which part of all traffic it is.
--
-- @table   flows
-- @param   n integer = 10: rows to show, most bytes first
-- @column  client VARCHAR: initiator
-- @column  server VARCHAR: responder
-- @column  process VARCHAR: owner's command name
-- @column  began TIMESTAMP WITH TIME ZONE: when it began, or was first recorded
-- @column  life DOUBLE us: from then to its end, or to what was last recorded
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  client_bytes BIGINT bytes: payload bytes sent by the client
-- @column  server_bytes BIGINT bytes: payload bytes sent by the server
-- @column  rate DOUBLE bits/s: bytes over its life
-- @column  share DOUBLE ratio: of all bytes
-- @column  running_share DOUBLE ratio: of all bytes, with the flows above
-- @chart   bar x=bytes y=client
-- @example web-day n=1
-- @expect  10.20.3.1:39278 | 10.20.3.2:80 | curl | 2026-11-23T01:45:09.592500Z | ... | 60000324 | 83 | 60000241
with ranked as (
  select
    * replace (
      recorded(bytes, sampling_interval) as bytes,
      recorded(client_bytes, sampling_interval) as client_bytes,
      recorded(server_bytes, sampling_interval) as server_bytes
    ),
    row_number() over (
      order by recorded(session.bytes, sampling_interval) desc nulls last, began, client_address, client_port, capture,
        flow_id
    ) as place
  from session
  where weight = coalesce(sampling_interval, 1)
  order by place
  limit $n
)
select
  endpoint(client_address, client_port) as client,
  endpoint(server, server_port) as server,
  process_name as process,
  began,
  (epoch_us(end_time) - epoch_us(began))::DOUBLE as life,
  bytes,
  client_bytes,
  server_bytes,
  bytes * 8e6 / nullif(epoch_us(end_time) - epoch_us(began), 0)::DOUBLE as rate,
  bytes / nullif((select sum(bytes) from flow), 0)::DOUBLE as share,
  sum(bytes) over (order by place) / nullif((select sum(bytes) from flow), 0)::DOUBLE as running_share
from ranked
order by place;
