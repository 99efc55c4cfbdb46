-- Who moved the most traffic.
--
-- When a link is full: name the pairs, services or processes that fill it. The row `(other)` is everything that is not
-- shown, so that the column adds up to the whole.
--
-- @table   flows
-- @param   by    dimension(pair, client, server, service, process, executable, container, host) = pair: what to group by
-- @param   order choice(bytes, packets, flows, retransmits) = bytes: what to rank by
-- @param   n     integer = 10: rows to show
-- @column  talker VARCHAR: what the traffic is grouped by
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  client_bytes BIGINT bytes: payload bytes sent by clients
-- @column  server_bytes BIGINT bytes: payload bytes sent by servers
-- @column  packets BIGINT packets: packets, both ways; null: not known, as of a proxy's sessions
-- @column  flows BIGINT flows: flows, each counted once
-- @column  retransmits BIGINT segments: segments sent again, both ways; null: not known
-- @column  share DOUBLE ratio: part of the total of the column that is ranked by
-- @chart   bar x=bytes y=talker
-- @example web-day n=2
-- @expect  10.20.3.1 -> 10.20.3.2 | 60000324 | 83 | 60000241 | 42369 | 1 | 0 | ...
-- @expect  10.20.1.100 -> 10.20.1.2 | 993743 | 13787 | 979956 | 2563 | 168 | 0 | ...
-- @expect  (other) | 3912826 | 69719 | 3843107 | 11346 | 727 | 0 | ...
with grouped as (
  select
    {by.keys},
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    sum(coalesce(client_packets + server_packets, client_packets, server_packets)) as packets,
    sum(flows) as flows,
    -- Counted, because that takes less time than bool_or().
    case when count_if(client_retransmits is not null or server_retransmits is not null) > 0 then sum(retransmits) end
      as retransmits
  from flow
  group by {by.keys}
),
labelled as (
  select
    {by.label} as talker,
    coalesce(client_bytes, 0) as client_bytes,
    coalesce(server_bytes, 0) as server_bytes,
    coalesce(client_bytes, 0) + coalesce(server_bytes, 0) as bytes,
    packets,
    flows,
    retransmits
  from grouped
),
measured as (
  select
    *,
    coalesce(case $order when 'bytes' then bytes when 'packets' then packets when 'flows' then flows else retransmits end, 0)
      as measure
  from labelled
),
ranked as (
  select *, row_number() over (order by measure desc, bytes desc, talker) as place
  from measured
),
shown as (
  select
    least(place, $n + 1) as place,
    case when place <= $n then talker else '(other)' end as talker,
    sum(bytes) as bytes,
    sum(client_bytes) as client_bytes,
    sum(server_bytes) as server_bytes,
    sum(packets) as packets,
    sum(flows) as flows,
    sum(retransmits) as retransmits,
    sum(measure) as measure
  from ranked
  group by all
)
select
  talker,
  bytes::BIGINT as bytes,
  client_bytes::BIGINT as client_bytes,
  server_bytes::BIGINT as server_bytes,
  packets::BIGINT as packets,
  flows::BIGINT as flows,
  retransmits::BIGINT as retransmits,
  measure::DOUBLE / nullif(sum(measure) over (), 0)::DOUBLE as share
from shown
order by place;
