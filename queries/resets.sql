-- Connections that ended with a reset or a timeout instead of a close, by service.
--
-- A reset that the server sent in the middle of a connection is a crash, a limit or an impatient load balancer; one that
-- the client sent is often an impatient client.
--
-- @table   flows
-- @param   by dimension(service, server, pair, client, process, container, host) = service: what to group by
-- @param   n  integer = 20: rows to show, most resets first
-- @column  service VARCHAR: what the flows are grouped by
-- @column  closed BIGINT flows: established connections that ended
-- @column  resets_sent BIGINT flows: reset by the recorded side
-- @column  resets_received BIGINT flows: reset by its peer
-- @column  timeouts BIGINT flows: given up
-- @column  ratio DOUBLE ratio: resets and timeouts, of those that ended
-- @column  before_data BIGINT flows: of the resets, those before the server had sent a byte
-- @chart   bar x=ratio y=service
-- @example web-day n=2
-- @expect  10.20.1.2:80 | 529 | 0 | 0 | 0 | 0.0 | 0
-- @expect  10.20.2.1:8000 | 177 | 0 | 0 | 0 | 0.0 | 0
with grouped as (
  select
    {by.keys},
    sum(flows) as closed,
    coalesce(sum(flows) filter (where tcp_close = 'rst_sent'), 0) as resets_sent,
    coalesce(sum(flows) filter (where tcp_close = 'rst_received'), 0) as resets_received,
    coalesce(sum(flows) filter (where tcp_close = 'timeout'), 0) as timeouts,
    coalesce(sum(flows) filter (where tcp_close like 'rst_%' and coalesce(server_bytes, 0) = 0), 0) as before_data
  from session
  where tcp_close is not null and tcp_close <> 'connect_failed'
  group by {by.keys}
)
select
  {by.label} as service,
  closed::BIGINT as closed,
  resets_sent::BIGINT as resets_sent,
  resets_received::BIGINT as resets_received,
  timeouts::BIGINT as timeouts,
  (resets_sent + resets_received + timeouts) / nullif(closed, 0)::DOUBLE as ratio,
  before_data::BIGINT as before_data
from grouped
order by resets_sent + resets_received + timeouts desc, closed desc, service
limit $n;
