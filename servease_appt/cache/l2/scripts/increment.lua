#!lua
-- Add to a number and announce it. Its expiry does not change; a missing number counts as 0 and gets no expiry.
-- KEYS  data, lease, absent, copy; last the sequence, if the change is announced here
-- ARGV  delta, channel, the message before the sequence number, the message after it
-- Returns the new number as text, since Lua's own numbers are exact up to 2^53 only, and the new sequence number
-- (false if it is not announced here: a nil at the end of a table would be left out of the answer).
-- include announce.lua
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return {redis.call('GET', KEYS[1]), KEYS[5] and announce(KEYS[5], ARGV[2], ARGV[3], ARGV[4]) or false}
