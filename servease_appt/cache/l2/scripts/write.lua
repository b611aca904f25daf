#!lua
-- Replace a value whatever was there, and tell every worker: unlike a fill, a write is news.
-- KEYS  the sequence, then of the one key: data, lease, absent, copy
-- ARGV  payload, ttl_ms, channel, the message before the sequence number, the message behind it
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local sequence = count_up(KEYS[1])
redis.call('PUBLISH', ARGV[3], ARGV[4] .. sequence .. ARGV[5])
return sequence
