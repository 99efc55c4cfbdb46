-- HTTP as a proxy saw it: requests by host, status and path, and how long the first byte took.
--
-- Needs sessions that a proxy recorded (source tproxy, haproxy, envoy or squid); each session counts with its first request.
--
-- @table   flows
-- @param   n integer = 50: rows to show, most sessions first
-- @column  http_host VARCHAR: host that was asked for, or the server's name
-- @column  method VARCHAR: method
-- @column  path VARCHAR: path without its query
-- @column  status INTEGER: status of the first response
-- @column  sessions BIGINT flows: sessions
-- @column  bytes BIGINT bytes: payload bytes, both ways
-- @column  first_byte_p50 DOUBLE us: median of the times to the first byte
-- @column  first_byte_p95 DOUBLE us: 95th percentile of the times to the first byte
-- @chart   bar x=sessions y=path
-- @example gateway
-- @expect  shop.example | GET | /2000 | 200 | 37 | 84878
-- @expect  shop.example | GET | /20000 | 200 | 27 | 548019
-- @expect  shop.example | GET | /2001 | 404 | 9 | 3195
-- @expect  shop.example | GET | /api/200 | 502 | 9 | 3276
select
  coalesce(http_host, server_name) as http_host,
  http_method as method,
  http_path as path,
  http_status as status,
  sum(flows)::BIGINT as sessions,
  coalesce(sum(bytes), 0)::BIGINT as bytes,
  weighted_quantile(
    histogram(weighted(log_bucket(time_to_first_byte_us), weight)) filter (where time_to_first_byte_us is not null), 0.5
  ) as first_byte_p50,
  weighted_quantile(
    histogram(weighted(log_bucket(time_to_first_byte_us), weight)) filter (where time_to_first_byte_us is not null), 0.95
  ) as first_byte_p95
from session
where http_method is not null or http_status is not null or http_host is not null
group by all
order by sessions desc, http_host, method, path, status
limit $n;
