#!lua
-- Store loaded values, but only under the fence that existed before the load began (races R2, R15, R17). The fence may
-- have another owner now (see `acquire.lua`), but there was no invalidation.
-- KEYS  four for each key: data, lease, absent, copy
-- ARGV  five for each key: lease, 'value' or 'absent', payload, ttl_ms (of a value, 0: no expiry; of an absence, 0:
--       not cached), copy_ms (0: no stale copy)
local function fence(lease) return string.match(lease, '^[^#]*') end

local stored = {}
for i = 1, #KEYS / 4 do
  local data, lease, absent, copy = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
  local token, kind, payload, ttl_ms, copy_ms = unpack(ARGV, 5 * i - 4, 5 * i)
  local stands = redis.pcall('GET', lease)
  if type(stands) ~= 'string' or fence(stands) ~= fence(token) then
    stored[i] = 0
  elseif kind == 'absent' then
    redis.call('DEL', data, copy, lease)
    if ttl_ms ~= '0' then redis.call('SET', absent, '1', 'PX', ttl_ms) end
    stored[i] = 1
  else
    if ttl_ms == '0' then redis.call('SET', data, payload) else redis.call('SET', data, payload, 'PX', ttl_ms) end
    if copy_ms ~= '0' then redis.call('SET', copy, payload, 'PX', copy_ms) end
    redis.call('DEL', absent, lease)
    stored[i] = 1
  end
end
return stored
