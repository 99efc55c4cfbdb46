-- The host's resources against their limits, fullest first.
--
-- Links, connection tracking, ephemeral ports, listen queues, memory: what was nearest to its limit, and when. `capacity`
-- says when it will be reached.
--
-- @table   host
-- @param   n integer = 50: rows to show
-- @column  resource VARCHAR: what is measured
-- @column  host VARCHAR: the observer
-- @column  namespace BIGINT: inode of the network namespace
-- @column  unit VARCHAR: unit of the numbers
-- @column  last DOUBLE: the last reading
-- @column  mean DOUBLE: mean of the readings
-- @column  peak DOUBLE: the highest reading
-- @column  peak_time TIMESTAMP WITH TIME ZONE: when that was
-- @column  most DOUBLE: the limit, where there is one
-- @column  use DOUBLE ratio: the highest reading, of its limit
-- @column  readings BIGINT count: readings
-- @chart   bar x=use y=resource
-- @example ordinary-day n=1
-- @expect  ephemeral_ports | web1 | ... | port | 222.0 | ... | 360.0 | ... | 1000.0 | 0.36 | 98
select
  resource,
  host,
  netns as namespace,
  unit,
  arg_max(used, "time") as last,
  avg(used) as mean,
  max(used) as peak,
  arg_max("time", (used, -epoch_us("time"))) as peak_time,
  max("limit") as most,
  max(used / nullif("limit", 0)) as use,
  count(*) as readings
from host
group by all
order by use desc nulls last, resource, host, namespace
limit $n;
