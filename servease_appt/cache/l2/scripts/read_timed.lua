#!lua flags=no-writes
-- Read values and their remaining TTLs in one step: else a value written in between would be paired with the TTL of
-- its predecessor.
-- KEYS  data keys; last the sequence, if it is wanted
-- ARGV  the number of data keys
-- Returns for each data key its value and its TTL in ms (-1: no expiry); last the sequence.
local answers, n = {}, tonumber(ARGV[1])
for i = 1, n do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'table' then value = false end -- of another type, so not the cache's
  answers[2 * i - 1], answers[2 * i] = value, redis.call('PTTL', KEYS[i])
end
if KEYS[n + 1] then
  local sequence = redis.pcall('GET', KEYS[n + 1])
  answers[2 * n + 1] = type(sequence) == 'table' and false or sequence
end
return answers
