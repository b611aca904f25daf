-- Included by the scripts that change values that L1 may hold. Increment the sequence and publish, in one step with
-- the change, so that no crash and no reader can come between (races R4, R5). Returns the new sequence number, and the
-- number of connections to which this node sent the message.
local function announce(sequence_key, channel, head, tail)
  -- A lost sequence (FLUSHDB, eviction, failover) starts again from the clock in microseconds, so that its numbers
  -- are higher, plus a random part of up to 66 ms, the least time in which a server restarts: clocks may differ, and
  -- the numbers of two histories must not be equal. Lua's own random numbers begin alike in every call, so the hash of what differs
  -- between two calls is used.
  local function start_anew()
    local now = redis.call('TIME')
    local random = tonumber(string.sub(redis.sha1hex(now[1] .. now[2] .. head .. tail), 1, 4), 16)
    redis.call('SET', sequence_key, string.format('%.0f', now[1] * 1000000 + now[2] + random))
  end
  if redis.call('EXISTS', sequence_key) == 0 then start_anew() end
  local counted = redis.pcall('INCR', sequence_key)
  if type(counted) == 'table' then -- overwritten by another client with something that is no number
    start_anew()
    counted = redis.call('INCR', sequence_key)
  end
  local sequence = string.format('%.0f', counted)
  return sequence, redis.call('PUBLISH', channel, head .. sequence .. tail)
end
