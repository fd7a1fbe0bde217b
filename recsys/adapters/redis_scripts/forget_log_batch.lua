-- Acknowledges a batch of the log that is stored elsewhere, and removes it.
-- KEYS: log
-- ARGV: group, the id after the last of the batch, then the ids of the batch
local AT_ONCE = 1000
for first = 3, #ARGV, AT_ONCE do
  redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, math.min(first + AT_ONCE - 1, #ARGV)))
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[2])
