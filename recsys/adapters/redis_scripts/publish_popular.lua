-- Replaces the popularity of a bucket by that in `next`.
-- KEYS: popular, clock, next, next_clock, counted
if redis.call('EXISTS', KEYS[4]) == 0 then
  return redis.error_reply('another seed job has started; run `make seed` again')
end
redis.call('DEL', KEYS[1], KEYS[5])
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[1])
  redis.call('PERSIST', KEYS[1])
end
redis.call('RENAME', KEYS[4], KEYS[2])
redis.call('PERSIST', KEYS[2])
return 1
