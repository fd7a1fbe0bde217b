-- Appends a batch of impressions to the log, once.
-- KEYS: log, batch
-- ARGV: max_log, batch_ttl, then the entries
-- Returns the number of appended entries, 0 for a batch that was appended before, or -1 if the log is full.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return -1
end
for i = 3, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'entry', ARGV[i])
end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
return #ARGV - 2
