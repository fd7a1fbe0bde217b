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

local function add_to(key, name, stored, second, half_lives)
  local number = string.gmatch(stored or '', '%S+')
  local first, last = tonumber(number() or second), tonumber(number() or second)
  local values = { math.min(first, second), math.max(last, second), tonumber(number() or 0) + 1 }
  for i, half_life in ipairs(half_lives) do
    local sum = tonumber(number() or 0) + 2 ^ (second % DAY / DAY / half_life)
    values[3 + i] = string.format('%.10g', sum)
  end
  redis.call('HSET', key, name, table.concat(values, ' '))
end

-- Counts an event. A day that has `max_items` counts further items in the sums of all items only.
local function add_use(key, item_id, timestamp, half_lives, max_items, kept_days)
  local second = math.floor(timestamp)
  local of_item, of_all = unpack(redis.call('HMGET', key, item_id, ALL))
  add_to(key, ALL, of_all, second, half_lives)
  if of_item or redis.call('HLEN', key) <= max_items then
    add_to(key, item_id, of_item, second, half_lives)
  end
  if not of_all then
    redis.call('EXPIREAT', key, second - second % DAY + (kept_days + 1) * DAY)
  end
end
