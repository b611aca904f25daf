#!lua
-- Replace a value whatever was there, and tell every worker: unlike a fill, a write is news.
-- KEYS  the sequence, then of the one key: data, lease, absent, copy
-- ARGV  payload, ttl_ms, channel, the message before the sequence number, the message behind it
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local function start_anew()
  local now = redis.call('TIME')
  redis.call('SET', KEYS[1], now[1] .. string.format('%06d', now[2]))
end
if redis.call('EXISTS', KEYS[1]) == 0 then start_anew() end
local counted = redis.pcall('INCR', KEYS[1])
if type(counted) == 'table' then -- overwritten by hand with what is no number
  start_anew()
  counted = redis.call('INCR', KEYS[1])
end
local sequence = string.format('%.0f', counted)
redis.call('PUBLISH', ARGV[3], ARGV[4] .. sequence .. ARGV[5])
return sequence
