-- What went wrong, counted: retransmits, resets, failed connects, overflows and drops, with the kernel's reason.
--
-- The first look at recorded events: which kinds there are, how many, from when to when, and whom they concern most.
--
-- @table   events
-- @param   n integer = 50: rows to show, most events first
-- @column  kind VARCHAR: kind of event
-- @column  reason VARCHAR: the kernel's reason or errno
-- @column  events BIGINT events: how many
-- @column  share DOUBLE ratio: of all events
-- @column  first_time TIMESTAMP WITH TIME ZONE: the first
-- @column  last_time TIMESTAMP WITH TIME ZONE: the last
-- @column  clients BIGINT count: client addresses concerned
-- @column  services BIGINT count: services concerned
-- @column  top_service VARCHAR: the service with the most of them
-- @column  top_share DOUBLE ratio: its part of them
-- @chart   bar x=events y=kind
-- @example service-regressed n=2
-- @expect  drop | NETFILTER_DROP | 3539 | ... | ... | ... | 1 | 1 | 10.31.1.2:8000 | 1.0
-- @expect  retransmit | recovery | 1457 | ... | ... | ... | 1 | 1 | 10.31.1.2:8000 | 1.0
with services as (
  select
    kind, reason, server_address, server_port, sum(coalesce("count", 1)) as events, min("time") as first_time,
    max("time") as last_time
  from events
  group by all
),
named as (
  select *, server_address || ':' || coalesce(server_port::VARCHAR, '*') as service from services
),
clients as (
  select kind, reason, count(distinct client_address) as clients from events group by all
),
grouped as (
  select
    kind, reason, sum(events) as events, min(first_time) as first_time, max(last_time) as last_time,
    count(service) as services, arg_max(service, (events, service)) filter (where service is not null) as top_service,
    max(events) filter (where service is not null) as top_events
  from named
  group by all
)
select
  grouped.kind,
  grouped.reason,
  events::BIGINT as events,
  events / nullif(sum(events) over (), 0)::DOUBLE as share,
  first_time,
  last_time,
  clients,
  services,
  top_service,
  top_events / nullif(events, 0)::DOUBLE as top_share
from grouped
join clients on clients.kind is not distinct from grouped.kind and clients.reason is not distinct from grouped.reason
order by events desc, grouped.kind, grouped.reason
limit $n;
