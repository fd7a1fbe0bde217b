-- Merges the newest events of a user's log into `recent`, and counts the items of `seen` as popularity of `next`.
-- KEYS: recent, seen, attributes, active, next, next_clock, counted
-- ARGV: user_id, ttl (0 for a user that the log does not have), max_runs, max_recent, max_seen, max_active, next_ttl,
--       then order, content, item_id, timestamp per event of the log, oldest first
local recent, seen, active = KEYS[1], KEYS[2], KEYS[4]
local user_id, ttl = ARGV[1], tonumber(ARGV[2])

if ttl > 0 then
  -- An event of the log replaces its live copy, so that the order is that of the log.
  local copies = {}
  for _, member in ipairs(redis.call('ZRANGE', recent, 0, -1)) do
    copies[string.sub(member, ORDER_LENGTH + 1)] = member
  end
  for i = 8, #ARGV, 4 do
    local event = ARGV[i + 1] .. ARGV[i + 2]
    if copies[event] then
      redis.call('ZREM', recent, copies[event])
    end
    redis.call('ZADD', recent, ARGV[i + 3], ARGV[i] .. event)
  end
  compact(recent, tonumber(ARGV[3]), tonumber(ARGV[4]))
  redis.call('ZREMRANGEBYRANK', seen, 0, -1 - tonumber(ARGV[5]))
  redis.call('ZADD', active, 'GT', ARGV[#ARGV], user_id)
  redis.call('ZREMRANGEBYRANK', active, 0, -1 - tonumber(ARGV[6]))
  for i = 1, 3 do
    redis.call('EXPIRE', KEYS[i], ttl)
  end
end

local clock = read_clock(KEYS[6])
if clock and redis.call('SADD', KEYS[7], user_id) == 1 then
  local last_events = redis.call('ZRANGE', seen, 0, -1, 'WITHSCORES')
  for i = 1, #last_events, 2 do
    count(KEYS[5], clock, last_events[i], nil, tonumber(last_events[i + 1]))
  end
  redis.call('EXPIRE', KEYS[5], ARGV[7])
  redis.call('EXPIRE', KEYS[7], ARGV[7])
end
