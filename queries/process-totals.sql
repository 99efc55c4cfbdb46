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
select owner as process, * exclude (owner)
from owner_totals('process')
order by sent + received desc, opened + accepted desc, process
limit $n;
