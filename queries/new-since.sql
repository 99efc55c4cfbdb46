-- What is new: clients that call a service which they had not called before.
--
-- After a release, or when something odd began: edges that were first seen after a moment, and not in the trace before it.
--
-- @table   flows
-- @param   after time = none: the moment (default: the middle of the window)
-- @param   n integer = 50: rows to show, earliest first
-- @column  client VARCHAR: name or address of the client
-- @column  service VARCHAR: server name or address, and port
-- @column  process VARCHAR: the client's process
-- @column  first_time TIMESTAMP WITH TIME ZONE: first seen
-- @column  new_service BOOLEAN: whether nobody had called the service before
-- @column  flows BIGINT flows: flows since
-- @column  bytes BIGINT bytes: payload bytes since, both ways
-- @column  failures BIGINT flows: connections that never came about
-- @chart   bar x=flows y=service
-- @example web-day n=1
-- @expect  fd20:1::69 | [fd20:1::2]:80 | python | 2026-11-23T01:45:47.372566Z | false | 5 | 10620 | 0
with span as (
  select coalesce(
    $after::TIMESTAMPTZ,
    make_timestamptz(((epoch_us(min(start_time)) + epoch_us(max(end_time))) // 2)::BIGINT)
  ) as moment
  from flow
),
edges as (
  select
    coalesce(client_name, client_address) as client, server, server_port,
    case when role in ('client', 'both') then process_name end as process,
    min(coalesce(flow_start_time, start_time)) as first_time, sum(flows)::BIGINT as flows,
    coalesce(sum(bytes), 0)::BIGINT as bytes,
    coalesce(sum(flows) filter (where tcp_close = 'connect_failed'), 0)::BIGINT as failures
  from flow
  group by all
),
known as (
  select *, min(first_time) over (partition by server, server_port) as service_time from edges
)
select
  client,
  endpoint(server, server_port) as service,
  process,
  first_time,
  service_time >= (select moment from span) as new_service,
  flows,
  bytes,
  failures
from known
where first_time >= (select moment from span)
order by first_time, client, service, process
limit $n;
