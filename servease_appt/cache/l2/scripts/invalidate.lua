#!lua flags=allow-oom
-- Delete and announce in one step: no crash and no reader can come between (races R4, R5). Deleting first gets
-- through on a full server, too.
-- KEYS  the sequence, then four for each key: data, lease, absent, copy
-- ARGV  channel, the message before the sequence number, the message behind it
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
-- A sequence that was lost (FLUSHDB, eviction, failover) starts anew from the clock, so that no worker can
-- take it for the old one.
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
redis.call('PUBLISH', ARGV[1], ARGV[2] .. sequence .. ARGV[3])
return sequence
