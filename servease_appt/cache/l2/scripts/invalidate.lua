#!lua flags=allow-oom
-- Delete and announce in one step. Deleting first works on a full server, too.
-- KEYS  the sequence, then four for each key: data, lease, absent, copy
-- ARGV  channel, the message before the sequence number, the message after it
-- include announce.lua
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
-- Returns the new sequence number, and the number of connections to which this node sent the message.
return {announce(KEYS[1], ARGV[1], ARGV[2], ARGV[3])}
