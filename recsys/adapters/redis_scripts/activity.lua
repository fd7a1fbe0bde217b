-- Functions for the activity of items in a UTC day: a hash of `<first> <last> <number> <sum> <sum>` by item, and of all
-- items together under the empty name. A sum has the weights of the events with forward decay from midnight on, one sum
-- per half-life (Cormode et al., "Forward Decay", ICDE 2009).

local DAY = 86400
local ALL = ''

-- Whether an event begins a step of the user's history: the events beside it are with other items.
local function begins_step(recent, member, item_id)
  local rank = redis.call('ZRANK', recent, member)
  for _, other in ipairs(redis.call('ZRANGE', recent, math.max(0, rank - 1), rank + 1)) do
    if other ~= member and string.sub(other, PREFIX_LENGTH + 1) == item_id then
      return false
    end
  end
  return true
end

-- What is stored under a name, with one more event.
local function with_event(stored, second, half_lives)
  local first, last, number, sums = second, second, 0, { 0, 0 }
  if stored then
    first, last, number, sums[1], sums[2] = string.match(stored, '(%d+) (%d+) (%d+) (%S+) (%S+)')
  end
  local in_day = second % DAY / DAY
  return string.format('%d %d %d %.10g %.10g', math.min(first, second), math.max(last, second), number + 1,
    sums[1] + 2 ^ (in_day / half_lives[1]), sums[2] + 2 ^ (in_day / half_lives[2]))
end

-- Counts an event. A day that has `max_items` counts further items in the sums of all items only.
local function add_use(key, item_id, timestamp, now, half_lives, max_items, kept_days)
  local second = math.floor(timestamp)
  local of_item, of_all = unpack(redis.call('HMGET', key, item_id, ALL))
  local values = { ALL, with_event(of_all, second, half_lives) }
  if of_item or redis.call('HLEN', key) <= max_items then
    values[3], values[4] = item_id, with_event(of_item, second, half_lives)
  end
  redis.call('HSET', key, unpack(values))
  if not of_all then
    redis.call('EXPIRE', key, math.ceil(second - second % DAY + (kept_days + 1) * DAY - now))
  end
end
