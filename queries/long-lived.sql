-- The flows that live longest, open ones too.
--
-- Connection pools, tunnels, stuck transfers: what a restart or a failover will cut. A life counts from when the flow
-- began, also when that was before the window.
--
-- @table   flows
-- @param   least duration = none: only flows that lived at least this long
-- @param   n integer = 20: rows to show, longest first
-- @column  client VARCHAR: initiator
-- @column  server VARCHAR: responder
-- @column  process VARCHAR: owner's command name
-- @column  began TIMESTAMP WITH TIME ZONE: when it began, or was first recorded
-- @column  life DOUBLE us: from then to its end, or to what was last recorded
-- @column  open BOOLEAN: whether it had not ended by then
-- @column  bytes BIGINT bytes: payload bytes in the window, both ways
-- @column  rate DOUBLE bits/s: those over its life
-- @column  retransmits BIGINT segments: segments sent again, both ways
-- @chart   bar x=life y=server
-- @example web-day n=1
-- @expect  10.20.2.1:44458 | 10.20.2.2:6379 | python | 2026-11-23T01:45:03.289956Z | ... | false | 212587 | ... | 0
select
  endpoint(client_address, client_port) as client,
  endpoint(server, server_port) as server,
  process_name as process,
  began,
  life::DOUBLE as life,
  flow_end_reason in ('active', 'forced') as open,
  recorded(bytes, sampling_interval) as bytes,
  recorded(bytes, sampling_interval) * 8e6 / nullif(epoch_us(end_time) - epoch_us(began), 0)::DOUBLE as rate,
  recorded(retransmits, sampling_interval) as retransmits
from session
where life >= coalesce($least, 0)
order by life desc, session.bytes desc, client, server, capture, flow_id
limit $n;
