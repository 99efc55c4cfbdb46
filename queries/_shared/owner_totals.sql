-- What the owners of flows send and receive, and how they are used, each from its own point of view.
--
-- `owner_totals(kind)` has one line for each process ('process', by command name) or container ('container'): as a client
-- it sends the client's bytes, as a server the server's. A connection between two of this host counts for both of them.
--
-- @table flows
create temp macro owner_totals(kind) as table
with own as (
  select
    case kind when 'process' then coalesce(process_name, '(unknown)') else coalesce(container_id, '(none)') end as owner,
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
  owner,
  sum(case when serves then server_bytes else client_bytes end)::BIGINT as sent,
  sum(case when serves then client_bytes else server_bytes end)::BIGINT as received,
  coalesce(sum(flows) filter (where serves is not true), 0)::BIGINT as opened,
  coalesce(sum(flows) filter (where serves), 0)::BIGINT as accepted,
  coalesce(sum(flows) filter (where serves is not true and tcp_close = 'connect_failed'), 0)::BIGINT as failures,
  sum(retransmits)::BIGINT as retransmits,
  count(distinct peer) as peers
from own
group by all;
