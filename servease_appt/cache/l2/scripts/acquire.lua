#!lua
-- Return for each key the value if it is stored meanwhile, the absence, or the lease that lets the reader load and
-- fill. The lease is the fence: an invalidation deletes it.
-- A lease consists of the fence's name, which never changes while the lease exists, and after a takeover of `#` and
-- the new owner. Every load that began under the fence may fill, since there was no invalidation; the first is kept.
-- KEYS  four for each key: data, lease, absent, copy; last the sequence, where it is here
-- ARGV  owner, lease_ms, 'load' or 'refresh', then, if a lease may be taken over, for each key that lease or ''
-- Returns one letter for each key, the sequence (false: not here), and then for each key in order
--   v  value: the value
--   a  absent: nothing
--   h  held by another owner: its lease, the copy (false: none)
--   g  granted, the lease is the owner, and there is no copy: nothing
--   G  granted: the lease, the copy (false: none)
-- Letters instead of a list for each key, since most keys of a cold page are granted, and a list costs more to read.
local owner, lease_ms, refreshing = ARGV[1], ARGV[2], ARGV[3] == 'refresh'

-- A lease is taken over only once: the second owner's lease is recent and expires by itself. A lease without expiry
-- was written by another client.
local function may_take_over(lease, holder, wanted)
  return holder == wanted and not string.find(holder, '#', 1, true) or redis.call('PTTL', lease) == -1
end

local letters, rest, count = {}, {}, math.floor(#KEYS / 4)
local function add(letter, ...)
  letters[#letters + 1] = letter
  for i = 1, select('#', ...) do rest[#rest + 1] = (select(i, ...)) end
end

-- One MGET for many keys, since a call costs more than a key. Lua's stack limits how many. MGET returns nil for a key
-- of another type, which is not the cache's; SET and DEL replace it.
local CHUNK = 1000
for first = 1, count, CHUNK do
  local last = math.min(first + CHUNK - 1, count)
  local found = redis.call('MGET', unpack(KEYS, 4 * first - 3, 4 * last))
  for i = first, last do
    local j = 4 * (i - first)
    local value, holder, absent, copy = found[j + 1], found[j + 2], found[j + 3], found[j + 4]
    if value and not refreshing then
      add('v', value)
    elseif absent and not refreshing then
      add('a')
    elseif holder and not may_take_over(KEYS[4 * i - 2], holder, ARGV[3 + i]) then
      add('h', holder, copy)
    else
      local granted = holder and string.match(holder, '^[^#]*') .. '#' .. owner or owner
      redis.call('SET', KEYS[4 * i - 2], granted, 'PX', lease_ms)
      if holder or copy then add('G', granted, copy) else letters[#letters + 1] = 'g' end
    end
  end
end
local sequence = #KEYS % 4 == 1 and redis.pcall('GET', KEYS[#KEYS])
return {table.concat(letters), type(sequence) == 'string' and sequence, unpack(rest)}
