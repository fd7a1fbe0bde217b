-- Records the events of one user, each once: in the log, and by the meaning of its kind in the user's history, as seen or
-- as not wanted; and, if the catalogue knows the item, as popularity (what is seen) and as activity (what is a step).
-- KEYS: recent, seen, event_ids, attributes, active, popular, clock, next, next_clock, counted, log, disliked, then the
--       activity of each day of the events
-- ARGV: user_id, now, ttl, max_runs, max_recent, max_seen, max_event_ids, max_active, max_popular, default_half_life,
--       max_log, max_day_items, kept_days, half_life, half_life, max_disliked, then event_id, item_id, content,
--       timestamp, known, log_entry, day, effect per event; the day is the place in KEYS, or 0 if the event is too old
-- Returns 1 for each new event and 0 for each duplicate; or -1 for each event if the log is full, without any change.
local SECONDS_BETWEEN_EXPIRES = 3600
local FIRST_EVENT, FIELDS = 17, 8
local STEP, SEEN, DISLIKED = 1, 2, 4 -- bits of the effect: a step of the history, counts as seen, is not wanted
local recent, seen, event_ids, active = KEYS[1], KEYS[2], KEYS[3], KEYS[5]
local user_id, now, max_seen = ARGV[1], ARGV[2], tonumber(ARGV[6])

if redis.call('XLEN', KEYS[11]) >= tonumber(ARGV[11]) then
  local refused = {}
  for i = FIRST_EVENT, #ARGV, FIELDS do
    refused[#refused + 1] = -1
  end
  return refused
end

local counters = { { KEYS[6], read_clock(KEYS[7]) or { half_life = tonumber(ARGV[10]), log_end = 0, log_age = 0 } } }
local next_clock = read_clock(KEYS[9])
if next_clock and redis.call('SISMEMBER', KEYS[10], user_id) == 1 then
  counters[2] = { KEYS[8], next_clock } -- a seed job counts all users again, and has counted this one
end

-- An event before the oldest item of a full `seen` is not kept there, so it would count each time it is sent.
local num_seen, counts_since = redis.call('ZCARD', seen), 0
if num_seen >= max_seen then
  counts_since = tonumber(redis.call('ZRANGE', seen, 0, 0, 'WITHSCORES')[2])
end

local max_day_items, kept_days = tonumber(ARGV[12]), tonumber(ARGV[13])
local half_lives = { tonumber(ARGV[14]), tonumber(ARGV[15]) }
local new, latest = {}, 0
for i = FIRST_EVENT, #ARGV, FIELDS do
  local item_id, timestamp, effect = ARGV[i + 1], ARGV[i + 3], tonumber(ARGV[i + 7])
  local is_new = redis.call('ZADD', event_ids, 'NX', now, ARGV[i])
  local is_step = bit.band(effect, STEP) ~= 0
  local member = is_new == 1 and is_step and add_live(recent, item_id, ARGV[i + 2], timestamp)
  if is_step and not member then
    is_new = 0
  end
  if is_new == 1 then
    redis.call('XADD', KEYS[11], '*', 'entry', ARGV[i + 5])
    local at = tonumber(timestamp)
    latest = math.max(latest, at)
    local is_seen = bit.band(effect, SEEN) ~= 0
    if is_seen and ARGV[i + 4] == '1' and at >= counts_since then
      local previous = tonumber(redis.call('ZSCORE', seen, item_id) or nil)
      for _, counter in ipairs(counters) do
        count(counter[1], counter[2], item_id, previous, at)
      end
    end
    local day = tonumber(ARGV[i + 6])
    if is_step and ARGV[i + 4] == '1' and day > 0 and begins_step(recent, member, item_id) then
      add_use(KEYS[day], item_id, at, tonumber(now), half_lives, max_day_items, kept_days)
    end
    if is_seen then
      num_seen = num_seen + redis.call('ZADD', seen, 'GT', timestamp, item_id)
    end
    if bit.band(effect, DISLIKED) ~= 0 then
      redis.call('ZADD', KEYS[12], 'GT', timestamp, item_id)
      redis.call('ZREMRANGEBYRANK', KEYS[12], 0, -1 - tonumber(ARGV[16]))
      redis.call('EXPIRE', KEYS[12], ARGV[3])
    end
  end
  new[#new + 1] = is_new
end

compact(recent, tonumber(ARGV[4]), tonumber(ARGV[5]))
if num_seen > max_seen then
  redis.call('ZREMRANGEBYRANK', seen, 0, -1 - max_seen)
end
redis.call('ZREMRANGEBYRANK', event_ids, 0, -1 - tonumber(ARGV[7]))
redis.call('ZREMRANGEBYRANK', KEYS[6], 0, -1 - tonumber(ARGV[9]))
if redis.call('ZADD', active, 'GT', latest, user_id) == 1 then
  redis.call('ZREMRANGEBYRANK', active, 0, -1 - tonumber(ARGV[8]))
end
if redis.call('TTL', event_ids) < tonumber(ARGV[3]) - SECONDS_BETWEEN_EXPIRES then
  for i = 1, 4 do
    redis.call('EXPIRE', KEYS[i], ARGV[3])
  end
  redis.call('EXPIRE', KEYS[12], ARGV[3])
end
return new
