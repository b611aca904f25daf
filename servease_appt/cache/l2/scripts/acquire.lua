#!lua
-- One round trip for all the keys that a reader lacks: the value if it has come meanwhile, the word that there is
-- none, or the lease that lets the reader load and fill. The lease is the fence: whoever invalidates deletes it.
-- KEYS  four for each key: data, lease, absent, copy
-- ARGV  token, lease_ms, 'load' or 'refresh', then for each key the token it may take over from, or ''
local token, lease_ms, refreshing = ARGV[1], ARGV[2], ARGV[3] == 'refresh'

-- A key of another type is not ours: it goes, so that it can't hide the value for ever.
local function text(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err then
    redis.call('DEL', key)
    return false
  end
  return value
end

local answers = {}
for i = 1, #KEYS / 4 do
  local data, lease, absent, copy = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
  local value = not refreshing and text(data)
  if value then
    answers[i] = {'value', value}
  elseif not refreshing and text(absent) then
    answers[i] = {'absent'}
  else
    local holder = text(lease)
    if holder and holder ~= ARGV[3 + i] then
      answers[i] = {'held', holder, text(copy)}
    else
      redis.call('SET', lease, token, 'PX', lease_ms)
      answers[i] = {'granted', token, text(copy)}
    end
  end
end
return answers
