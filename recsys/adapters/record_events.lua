-- Records the events of one user, once per event id, trims the lists, and updates the trending counts.
-- KEYS: recent, seen, event_ids, popular, popular_live, popular_clock, sequence
-- ARGV: now, max_recent, max_seen, max_event_ids, default_half_life, then event_id, item_id, timestamp, known per event
-- Returns 1 for each new event and 0 for each duplicate.
local now = tonumber(ARGV[1])
redis.call('HSETNX', KEYS[6], 'landmark', now)
redis.call('HSETNX', KEYS[6], 'half_life', ARGV[5])
local landmark = tonumber(redis.call('HGET', KEYS[6], 'landmark'))
local half_life = tonumber(redis.call('HGET', KEYS[6], 'half_life'))
local new = {}
for i = 6, #ARGV, 4 do
  local event_id, item_id = ARGV[i], ARGV[i + 1]
  local timestamp = math.min(tonumber(ARGV[i + 2]), now)
  local added = redis.call('ZADD', KEYS[3], 'NX', now, event_id)
  new[#new + 1] = added
  if added == 1 then
    -- The sequence number keeps events with equal timestamps in the order of arrival.
    local position = string.format('1%013x', redis.call('INCR', KEYS[7]))
    redis.call('ZADD', KEYS[1], timestamp, position .. item_id)
    redis.call('ZADD', KEYS[2], 'GT', timestamp, item_id)
    if ARGV[i + 3] == '1' then
      local weight = 2 ^ ((timestamp - landmark) / half_life)
      redis.call('ZINCRBY', KEYS[4], weight, item_id)
      redis.call('ZINCRBY', KEYS[5], weight, item_id)
    end
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[3]))
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[4]))
return new
