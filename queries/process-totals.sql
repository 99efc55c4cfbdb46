-- What every process sends and receives, and how it is used.
--
-- Bytes from the process's own point of view: as a client it sends the client's bytes, as a server the server's. A connection
-- between two of this host counts for both of them here, so the column adds up to more than the traffic.
--
-- @table   flows
-- @param   n integer = 20: rows to show, most bytes first
-- @column  process VARCHAR: command name
-- @column  sent BIGINT bytes: payload bytes sent
-- @column  received BIGINT bytes: payload bytes received
-- @column  opened BIGINT flows: flows as a client
-- @column  accepted BIGINT flows: flows as a server
-- @column  failures BIGINT flows: connections of its own that never came about
-- @column  retransmits BIGINT segments: segments that it sent again
-- @column  peers BIGINT count: addresses on the other side
-- @chart   bar x=sent y=process
-- @example web-day n=2
-- @expect  nginx | 64108504 | 430954 | 200 | 694 | 23 | 409 | 41
-- @expect  curl | 83 | 60000241 | 1 | 0 | 0 | 0 | 1
with own as (
  select
    coalesce(process_name, '(unknown)') as process,
    role = 'server' as serves,
    case when role = 'server' then client_address else server_address end as peer,
    scaled(coalesce(client_bytes, 0), sampling_interval) as client_bytes,
    scaled(coalesce(server_bytes, 0), sampling_interval) as server_bytes,
    scaled(coalesce(case when role = 'server' then server_retransmits else client_retransmits end, 0), sampling_interval)
      as retransmits,
    counts_the_flow(flow_end_reason, capture, flow_id, end_time)::BIGINT * stands_for(sampling_interval, flow_count)
      as flows,
    tcp_close
  from flows
  where in_window(end_time)
)
select
  process,
  sum(case when serves then server_bytes else client_bytes end)::BIGINT as sent,
  sum(case when serves then client_bytes else server_bytes end)::BIGINT as received,
  coalesce(sum(flows) filter (where serves is not true), 0)::BIGINT as opened,
  coalesce(sum(flows) filter (where serves), 0)::BIGINT as accepted,
  coalesce(sum(flows) filter (where serves is not true and tcp_close = 'connect_failed'), 0)::BIGINT as failures,
  sum(retransmits)::BIGINT as retransmits,
  count(distinct peer) as peers
from own
group by all
order by sent + received desc, opened + accepted desc, process
limit $n;
