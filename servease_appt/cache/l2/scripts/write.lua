#!lua
-- Store values unconditionally and announce them: unlike a fill, a write changes the value that L1s may hold. If the
-- same bytes are stored already, only their TTL is set, and nothing is announced.
-- KEYS  four for each key: data, lease, absent, copy; last the sequence, if a change is announced here
-- ARGV  mode ('always', 'if_absent' or 'if_same'), l1_ms (the longest that any L1 holds a value), channel, the
--       message before the sequence number, the message after it; for each key payload, ttl_ms ('0': no expiry)
-- Returns for each key 0 (not stored), 1 (was stored already) or 2 (written, or its TTL shortened below l1_ms); last
-- the new sequence number, if one was announced here.
-- include announce.lua
local mode, l1_ms = ARGV[1], tonumber(ARGV[2])
local results, news = {}, false

-- Set the TTL of a value that stays. A TTL that is within 1 % of the new one is not changed: the server sends a
-- tracking message for each change. Returns true if L1s may now hold the value for too long.
local function set_life(data, ttl_ms)
  local left_ms = redis.call('PTTL', data)
  if ttl_ms == 0 then
    if left_ms ~= -1 then redis.call('PERSIST', data) end
    return false
  end
  local shorter = left_ms == -1 or left_ms > ttl_ms
  if shorter or left_ms * 100 < ttl_ms * 99 then redis.call('PEXPIRE', data, ttl_ms) end
  return shorter and ttl_ms < l1_ms
end

for i = 1, math.floor(#KEYS / 4) do
  local data, lease, absent, copy = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
  local payload, ttl = ARGV[4 + 2 * i], ARGV[5 + 2 * i]
  local held = redis.pcall('GET', data)
  if mode == 'if_absent' and held or mode == 'if_same' and held ~= payload then
    results[i] = 0
  elseif held == payload then
    redis.call('DEL', lease, absent, copy)
    results[i] = set_life(data, tonumber(ttl)) and 2 or 1
  else
    redis.call('DEL', lease, absent, copy)
    if ttl == '0' then redis.call('SET', data, payload) else redis.call('SET', data, payload, 'PX', ttl) end
    results[i] = 2
  end
  news = news or results[i] == 2
end
if #KEYS % 4 == 1 then results[#results + 1] = news and announce(KEYS[#KEYS], ARGV[3], ARGV[4], ARGV[5]) end
return results
