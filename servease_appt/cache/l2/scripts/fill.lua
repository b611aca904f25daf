#!lua
-- Store what was loaded, but only under the lease that was taken before the load began (races R2, R15, R17).
-- KEYS  four for each key: data, lease, absent, copy
-- ARGV  four for each key: token, payload ('' where the source has none), ttl_ms (0: no end), copy_ms (0: keep
--       no copy)
local stored = {}
for i = 1, #KEYS / 4 do
  local data, lease, absent, copy = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
  local token, payload, ttl_ms, copy_ms = ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i]
  if redis.call('GET', lease) ~= token then
    stored[i] = 0
  else
    if payload == '' then
      redis.call('DEL', data, copy)
      if ttl_ms ~= '0' then redis.call('SET', absent, '1', 'PX', ttl_ms) end
    else
      if ttl_ms == '0' then redis.call('SET', data, payload) else redis.call('SET', data, payload, 'PX', ttl_ms) end
      redis.call('DEL', absent)
      if copy_ms ~= '0' then redis.call('SET', copy, payload, 'PX', copy_ms) end
    end
    redis.call('DEL', lease)
    stored[i] = 1
  end
end
return stored
