-- Functions for `recent`, a user's newest events: members `<order><content><item_id>` by time in seconds. The content is
-- the whole second and the kind: two events with the same content and item are one event, as in the training log.

local ORDER_LENGTH, PREFIX_LENGTH = 3, 16
local LIVE_ORDER = 0x800 -- live events follow those of the log at the same time
local LAST_ORDER = 0xfff

-- How many of the newest members keep all events of a run. Late events that arrive within them find their exact place.
local UNTOUCHED = 100

local seconds = {}

local function stored_within(recent, second)
  local found = seconds[second]
  if not found then
    found = { identities = {}, orders = {} }
    local stored = redis.call('ZRANGE', recent, second, '(' .. second + 1, 'BYSCORE', 'WITHSCORES')
    for i = 1, #stored, 2 do
      local at = tonumber(stored[i + 1])
      found.identities[string.sub(stored[i], ORDER_LENGTH + 1)] = true
      found.orders[at] = math.max(found.orders[at] or 0, tonumber(string.sub(stored[i], 1, ORDER_LENGTH), 16))
    end
    seconds[second] = found
  end
  return found
end

-- Adds a live event; returns its member, or nil if it is there already. Equal timestamps keep the order of arrival.
local function add_live(recent, item_id, content, timestamp)
  local at = tonumber(timestamp)
  local found = stored_within(recent, math.floor(at))
  if found.identities[content .. item_id] then
    return nil
  end
  local order = math.min(math.max((found.orders[at] or 0) + 1, LIVE_ORDER), LAST_ORDER)
  local member = string.format('%03x', order) .. content .. item_id
  redis.call('ZADD', recent, timestamp, member)
  found.identities[content .. item_id] = true
  found.orders[at] = order
  return member
end

-- Removes what the newest `max_runs` runs of one item do not need: older runs, and the middle of a run. A run keeps its
-- first and its last event, so that a late event in between splits it.
local function compact(recent, max_runs, max_recent)
  if redis.call('ZCARD', recent) <= max_recent then
    return
  end
  local members = redis.call('ZRANGE', recent, 0, -1)
  local items, runs, older = {}, 0, 0
  for i = #members, 1, -1 do
    items[i] = string.sub(members[i], PREFIX_LENGTH + 1)
    if items[i] ~= items[i + 1] then
      runs = runs + 1
    end
    if runs > max_runs then
      older = i
      break
    end
  end
  local unneeded = {}
  for i = older + 2, #members - UNTOUCHED do
    if items[i] == items[i - 1] and items[i] == items[i + 1] then
      unneeded[#unneeded + 1] = members[i]
    end
  end
  if older > 0 then
    redis.call('ZREMRANGEBYRANK', recent, 0, older - 1)
  end
  if #unneeded > 0 then
    redis.call('ZREM', recent, unpack(unneeded))
  end
end
