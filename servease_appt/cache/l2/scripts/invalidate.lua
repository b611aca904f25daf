#!lua flags=allow-oom
-- Delete and announce in one step. Deleting first works on a full server, too.
-- Nothing is done if a sequence number is expected and the server has another: something was announced meanwhile.
-- KEYS  the sequence, then four for each key: data, lease, absent, copy
-- ARGV  channel, the message before the sequence number, the message after it, optionally the number expected
-- Returns the new sequence number and the number of connections to which this node sent the message, or nil if nothing
-- was done.
-- include announce.lua
if ARGV[4] and redis.pcall('GET', KEYS[1]) ~= ARGV[4] then return false end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return {announce(KEYS[1], ARGV[1], ARGV[2], ARGV[3])}
