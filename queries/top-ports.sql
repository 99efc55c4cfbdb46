-- Traffic by server port.
--
-- Which protocols there are, who offers and who uses them: the first question of an inventory or a firewall change.
--
-- @table   flows
-- @param   order choice(bytes, packets, flows) = bytes: what to rank by
-- @param   n integer = 20: rows to show
-- @column  port INTEGER: server port
-- @column  transport VARCHAR: tcp, udp, ...
-- @column  servers BIGINT count: server addresses
-- @column  clients BIGINT count: client addresses
-- @column  flows BIGINT flows: flows
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  packets BIGINT packets: packets, both ways
-- @column  failures BIGINT flows: connections that never came about
-- @column  share DOUBLE ratio: of all bytes
-- @chart   bar x=bytes y=port
-- @example web-day n=1
-- @expect  80 | tcp | 3 | 40 | 694 | 64149350 | 53033 | 0
with grouped as (
  select
    server_port, transport, count(distinct server_address) as servers, count(distinct client_address) as clients,
    sum(flows)::BIGINT as flows, coalesce(sum(bytes), 0)::BIGINT as bytes, coalesce(sum(packets), 0)::BIGINT as packets,
    coalesce(sum(flows) filter (where tcp_close = 'connect_failed'), 0)::BIGINT as failures
  from flow
  group by all
)
select
  server_port as port, transport, servers, clients, flows, bytes, packets, failures,
  bytes / nullif(sum(bytes) over (), 0)::DOUBLE as share
from grouped
order by case $order when 'bytes' then bytes when 'packets' then packets else flows end desc, port, transport
limit $n;
