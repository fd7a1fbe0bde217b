-- Functions for the popularity of items: the sum over users of the weight of their last event with the item, with
-- forward decay (Cormode et al., "Forward Decay", ICDE 2009). `seen` has the times of these last events, so an event that
-- arrives twice adds nothing, and no user weighs more than one event per item.

local LANDMARK = 1700000000 -- in Unix time; a constant, so that the weights of all buckets can be added

-- half_life: in seconds. log_end: the last timestamp of the seeded log. log_age: how old it was at seeding; the log's
-- end counts as the present of that moment.
local function read_clock(key)
  local fields = redis.call('HMGET', key, 'half_life', 'log_end', 'log_age')
  if not fields[1] then
    return nil
  end
  return { half_life = tonumber(fields[1]), log_end = tonumber(fields[2]), log_age = tonumber(fields[3]) }
end

local function weight(clock, timestamp)
  local at = math.max(timestamp, math.min(timestamp, clock.log_end) + clock.log_age)
  return 2 ^ ((at - LANDMARK) / clock.half_life)
end

-- Counts the last event of a user with an item instead of the previous one, whose time is nil if there is none.
local function count(popular, clock, item_id, previous, timestamp)
  local more = weight(clock, timestamp) - (previous and weight(clock, previous) or 0)
  if more > 0 then
    redis.call('ZINCRBY', popular, more, item_id)
  end
end
