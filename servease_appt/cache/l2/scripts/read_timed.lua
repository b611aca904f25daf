#!lua flags=no-writes
-- Read values together with what is left of their lives, in one step: a value written in between would else be
-- given the life of the one before it.
-- KEYS  data keys; last the sequence, where it is wanted
-- ARGV  how many data keys there are
-- Returns for each data key its value and its life in ms (-1: no end); last the sequence.
local answers, n = {}, tonumber(ARGV[1])
for i = 1, n do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'table' then value = false end -- of another type, which is not ours
  answers[2 * i - 1], answers[2 * i] = value, redis.call('PTTL', KEYS[i])
end
if KEYS[n + 1] then
  local sequence = redis.pcall('GET', KEYS[n + 1])
  answers[2 * n + 1] = type(sequence) == 'table' and false or sequence
end
return answers
