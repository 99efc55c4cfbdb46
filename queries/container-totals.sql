-- What every container sends and receives, and how it is used.
--
-- Bytes from the container's own point of view: as a client it sends the client's bytes, as a server the server's. A connection
-- between two of this host counts for both of them here, so the column adds up to more than the traffic.
--
-- @table   flows
-- @param   n integer = 20: rows to show, most bytes first
-- @column  container VARCHAR: container
-- @column  sent BIGINT bytes: payload bytes sent
-- @column  received BIGINT bytes: payload bytes received
-- @column  opened BIGINT flows: flows as a client
-- @column  accepted BIGINT flows: flows as a server
-- @column  failures BIGINT flows: connections of its own that never came about
-- @column  retransmits BIGINT segments: segments that it sent again
-- @column  peers BIGINT count: addresses on the other side
-- @chart   bar x=sent y=container
-- @example web-day n=2
-- @expect  (none) | 64906893 | 64906893 | 896 | 873 | 23 | 409 | 45
select owner as container, * exclude (owner)
from owner_totals('container')
order by sent + received desc, opened + accepted desc, container
limit $n;
