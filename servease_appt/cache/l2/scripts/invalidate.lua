#!lua flags=allow-oom
-- Delete and announce in one step: no crash and no reader can come between (races R4, R5). Deleting first gets
-- through on a full server, too.
-- KEYS  the sequence, then four for each key: data, lease, absent, copy
-- ARGV  channel, the message before the sequence number, the message behind it
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
local sequence = count_up(KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. sequence .. ARGV[3])
return sequence
