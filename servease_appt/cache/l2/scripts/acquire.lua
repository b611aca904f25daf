#!lua
-- Return for each key the value if it is stored meanwhile, the absence, or the lease that lets the reader load and
-- fill. The lease is the fence: an invalidation deletes it.
-- A lease consists of the fence's name, which never changes while the lease exists, and after a takeover of `#` and
-- the new owner. Every load that began under the fence may fill, since there was no invalidation; the first is kept.
-- KEYS  four for each key: data, lease, absent, copy; last the sequence, where it is here
-- ARGV  owner, lease_ms, 'load' or 'refresh', then for each key the lease that may be taken over, or ''
local owner, lease_ms, refreshing = ARGV[1], ARGV[2], ARGV[3] == 'refresh'

-- A lease is taken over only once: the second owner's lease is recent and expires by itself. A lease without expiry
-- was written by another client.
local function may_take_over(lease, holder, wanted)
  return holder == wanted and not string.find(holder, '#', 1, true) or redis.call('PTTL', lease) == -1
end

local answers = {}
for i = 1, math.floor(#KEYS / 4) do
  local lease = KEYS[4 * i - 2]
  -- MGET returns nil for a key of another type, which is not the cache's; SET and DEL replace it.
  local found = redis.call('MGET', KEYS[4 * i - 3], lease, KEYS[4 * i - 1], KEYS[4 * i])
  local value, holder, absent, copy = found[1], found[2], found[3], found[4]
  if value and not refreshing then
    answers[i] = {'value', value}
  elseif absent and not refreshing then
    answers[i] = {'absent'}
  elseif holder and not may_take_over(lease, holder, ARGV[3 + i]) then
    answers[i] = {'held', holder, copy}
  else
    local granted = holder and string.match(holder, '^[^#]*') .. '#' .. owner or owner
    redis.call('SET', lease, granted, 'PX', lease_ms)
    answers[i] = {'granted', granted, copy}
  end
end
if #KEYS % 4 == 1 then
  local sequence = redis.pcall('GET', KEYS[#KEYS])
  answers[#answers + 1] = type(sequence) == 'string' and sequence
end
return answers
