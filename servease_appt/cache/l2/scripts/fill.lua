#!lua
-- Store loaded values, but only under the fence that existed before the load began (races R2, R15, R17). The fence may
-- have another owner now (see `acquire.lua`), but there was no invalidation.
-- KEYS  four for each key: data, lease, absent, copy; at most 1,000 keys
-- ARGV  four for each key: lease, payload, ttl_ms (of a value, 0: no expiry; of an absence, 0: not cached), copy_ms
--       (0: no stale copy; 'absent': the source has no value)
-- Returns one letter for each key: 1 (stored) or 0 (refused).
local function fence(lease) return string.match(lease, '^[^#]*') end

-- One MGET and one DEL for all keys, since a call costs more than a key. MGET returns nil for a key of another type.
local leases, done, stored = {}, {}, {}
for i = 1, #KEYS / 4 do leases[i] = KEYS[4 * i - 2] end
local standing = redis.call('MGET', unpack(leases))
for i, lease in ipairs(leases) do
  local data, absent, copy = KEYS[4 * i - 3], KEYS[4 * i - 1], KEYS[4 * i]
  local token, ttl_ms, copy_ms, stands = ARGV[4 * i - 3], ARGV[4 * i - 1], ARGV[4 * i], standing[i]
  if not stands or (stands ~= token and fence(stands) ~= fence(token)) then
    stored[i] = '0'
  else
    stored[i] = '1'
    done[#done + 1] = lease
    if copy_ms == 'absent' then
      done[#done + 1], done[#done + 2] = data, copy
      if ttl_ms ~= '0' then redis.call('SET', absent, '1', 'PX', ttl_ms) end
    else
      local payload = ARGV[4 * i - 2]
      if ttl_ms == '0' then redis.call('SET', data, payload) else redis.call('SET', data, payload, 'PX', ttl_ms) end
      if copy_ms ~= '0' then redis.call('SET', copy, payload, 'PX', copy_ms) end
      done[#done + 1] = absent
    end
  end
end
if done[1] then redis.call('DEL', unpack(done)) end
return table.concat(stored)
