-- Sessions that passed a proxy, with what only the kernel knows of them beside what only the proxy knows.
--
-- From a trace recorded with `--source ebpf,tproxy`: one line per session of the proxy, with round-trip times and
-- retransmits of both of its connections and the program that began it, matched by the proxy's own sockets: the same
-- addresses and ports at the same time, on the same host. `kernel` says which of the two connections were found;
-- `unmatched` counts the sessions, over the whole answer, of which none was (a log that has no ports; without the
-- ebpf source, all).
--
-- @table   flows
-- @param   order choice(time, bytes, duration, first_byte) = time: earliest first, or the largest first
-- @param   n     integer = 100: rows to show (0: all)
-- @column  start_time TIMESTAMP WITH TIME ZONE: when the client connected
-- @column  duration DOUBLE us: until both sides had ended
-- @column  client VARCHAR: initiator
-- @column  server VARCHAR: responder
-- @column  server_name VARCHAR: TLS server name, or HTTP host
-- @column  tls_version VARCHAR: highest version offered
-- @column  alpn VARCHAR: first application protocol offered
-- @column  method VARCHAR: of the first HTTP request
-- @column  path VARCHAR: of the first HTTP request
-- @column  status INTEGER: of the first HTTP response
-- @column  client_bytes BIGINT bytes: payload bytes sent by the client
-- @column  server_bytes BIGINT bytes: payload bytes sent by the server
-- @column  connect_latency DOUBLE us: of the proxy's connection to the server
-- @column  first_byte DOUBLE us: from the session's start to the server's first byte
-- @column  client_rtt DOUBLE us: round-trip time between client and proxy
-- @column  server_rtt DOUBLE us: round-trip time between proxy and server
-- @column  to_client_retransmits BIGINT segments: sent again from the proxy to the client
-- @column  to_server_retransmits BIGINT segments: sent again from the proxy to the server
-- @column  process VARCHAR: the program that began it, where it runs on this host
-- @column  close VARCHAR: how the session ended
-- @column  closed_by VARCHAR: which side ended it
-- @column  source VARCHAR: which proxy saw it
-- @column  kernel VARCHAR: which connections the kernel's rows were found for: both, client, server, none
-- @column  unmatched BIGINT: sessions of the whole answer that no kernel row was found for
-- @chart   none
-- @example gateway n=3
-- @expect  2026-11-24T18:10:08.399125Z | 6381.0 | 10.39.1.1:51862 | 10.39.2.2:443 | accounts.shop.example | 1.3 | ... | ... | ... | ... | 739 | 1924 | 92.0 | 2015.0 | 92.0 | 191.0 | 0 | 0 | ... | fin | server | tproxy | both | 0
-- @expect  2026-11-24T18:10:08.437368Z | 576.0 | 10.39.1.1:55880 | 10.39.2.2:80 | shop.example | ... | ... | GET | /2001 | 404 | 61 | 294
-- @expect  2026-11-24T18:10:08.567788Z | 13009.0 | 10.39.1.1:51872 | 10.39.2.2:443 | secure.shop.example | 1.3
with session as (
  select *, row_number() over (order by capture, source, flow_id) as number
  from sighting
  where source in ('tproxy', 'haproxy', 'envoy', 'squid')
),
-- Ports are used again: the kernel's flow must also have begun with the session, to the second.
leg as (
  select
    session.number,
    max(case when kernel.role in ('server', 'both') then kernel.rtt_us end) as client_rtt,
    max(case when kernel.role in ('server', 'both') then kernel.server_retransmits end) as to_client,
    max(case when kernel.role = 'client' then kernel.rtt_us end) as server_rtt,
    max(case when kernel.role = 'client' then kernel.client_retransmits end) as to_server,
    max(case when kernel.role = 'client' and kernel.process_name <> 'netrec-tproxy' then kernel.process_name end)
      as process,
    count(*) filter (where kernel.role in ('server', 'both')) > 0 as has_client,
    count(*) filter (where kernel.role = 'client') > 0 as has_server
  from session
  join sighting as kernel
    on kernel.source = 'ebpf'
    and kernel.capture = session.capture
    and kernel.client_address = session.client_address and kernel.client_port = session.client_port
    and kernel.server_address = session.server_address and kernel.server_port = session.server_port
    and (session.netns is null or kernel.netns = session.netns)
    and abs(epoch_us(kernel.start_time) - epoch_us(session.start_time)) <= 1000000
  group by session.number
)
select
  session.start_time,
  (epoch_us(session.end_time) - epoch_us(session.start_time))::DOUBLE as duration,
  endpoint(session.client_address, session.client_port) as client,
  endpoint(session.server_address, session.server_port) as server,
  session.server_name,
  session.tls_version,
  session.alpn,
  session.http_method as method,
  session.http_path as path,
  session.http_status as status,
  session.client_bytes,
  session.server_bytes,
  session.connect_latency_us::DOUBLE as connect_latency,
  session.time_to_first_byte_us::DOUBLE as first_byte,
  leg.client_rtt::DOUBLE as client_rtt,
  leg.server_rtt::DOUBLE as server_rtt,
  leg.to_client as to_client_retransmits,
  leg.to_server as to_server_retransmits,
  leg.process,
  session.tcp_close as close,
  session.closed_by,
  session.source,
  case
    when leg.has_client and leg.has_server then 'both'
    when leg.has_client then 'client'
    when leg.has_server then 'server'
    else 'none'
  end as kernel,
  count(*) filter (where leg.number is null) over () as unmatched
from session
left join leg on leg.number = session.number
order by
  case $order
    when 'time' then -epoch_us(session.start_time)
    when 'bytes' then coalesce(session.client_bytes, 0) + coalesce(session.server_bytes, 0)
    when 'duration' then epoch_us(session.end_time) - epoch_us(session.start_time)
    else session.time_to_first_byte_us
  end desc nulls last,
  session.start_time, client, server, session.capture, session.flow_id, session.source
limit case when $n = 0 then 9223372036854775807 else $n end;
