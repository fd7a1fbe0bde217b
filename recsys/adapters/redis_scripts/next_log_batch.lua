-- The next entries of a stream of the log. They are the same ones until they are acknowledged, whoever asks and however
-- often, so whatever is made of a batch is made of the same batch again after a crash.
-- KEYS: log
-- ARGV: group, max_entries
-- Returns entries as XREADGROUP does; nothing if there is none.
local group, most, log = ARGV[1], ARGV[2], KEYS[1]
if redis.call('EXISTS', log) == 0 then
  return {}
end

local pending = redis.pcall('XREADGROUP', 'GROUP', group, group, 'STREAMS', log, '0')
if pending.err then
  redis.call('XGROUP', 'CREATE', log, group, '0')
elseif #pending[1][2] > 0 then
  return pending[1][2]
end
local new = redis.call('XREADGROUP', 'GROUP', group, group, 'COUNT', most, 'STREAMS', log, '>')
return new and new[1][2] or {}
