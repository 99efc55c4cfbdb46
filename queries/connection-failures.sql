-- Connections that never came about: from where, to which service, since when.
--
-- Refused, unanswered or unreachable: see `event-totals` for the kernel's reason where events were recorded.
--
-- @table   flows
-- @param   n integer = 20: rows to show, most failures first
-- @column  client VARCHAR: client address
-- @column  service VARCHAR: server name or address, and port
-- @column  process VARCHAR: the client's process
-- @column  attempts BIGINT flows: connections tried
-- @column  failures BIGINT flows: connections that never came about
-- @column  ratio DOUBLE ratio: those of all attempts
-- @column  first_time TIMESTAMP WITH TIME ZONE: the first failure
-- @column  last_time TIMESTAMP WITH TIME ZONE: the last failure
-- @column  longest DOUBLE us: the longest time until a failure
-- @chart   bar x=failures y=service
-- @example web-day
-- @expect  10.20.2.1 | 10.20.2.1:8000 | nginx | 200 | 23 | 0.115 | 2026-11-23T01:45:48.744493Z | 2026-11-23T01:45:51.580344Z | 47.0
select
  client_address as client,
  endpoint(server, server_port) as service,
  process_name as process,
  sum(flows)::BIGINT as attempts,
  sum(flows) filter (where tcp_close = 'connect_failed')::BIGINT as failures,
  sum(flows) filter (where tcp_close = 'connect_failed') / sum(flows)::DOUBLE as ratio,
  min(end_time) filter (where tcp_close = 'connect_failed') as first_time,
  max(end_time) filter (where tcp_close = 'connect_failed') as last_time,
  max(epoch_us(end_time) - epoch_us(start_time)) filter (where tcp_close = 'connect_failed')::DOUBLE as longest
from flow
where transport = 'tcp'
group by all
having count_if(tcp_close = 'connect_failed') > 0
order by failures desc, client, service, process
limit $n;
