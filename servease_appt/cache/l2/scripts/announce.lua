-- Included by the scripts that change values that L1 may hold. Increment the sequence and publish, in one step with
-- the change, so that no crash and no reader can come between (races R4, R5). Returns the new sequence number.
local function announce(sequence_key, channel, head, tail)
  -- A lost sequence (FLUSHDB, eviction, failover) starts again from the clock, so that no worker can confuse it with
  -- the old one.
  local function start_anew()
    local now = redis.call('TIME')
    redis.call('SET', sequence_key, now[1] .. string.format('%06d', now[2]))
  end
  if redis.call('EXISTS', sequence_key) == 0 then start_anew() end
  local counted = redis.pcall('INCR', sequence_key)
  if type(counted) == 'table' then -- overwritten by another client with something that is no number
    start_anew()
    counted = redis.call('INCR', sequence_key)
  end
  local sequence = string.format('%.0f', counted)
  redis.call('PUBLISH', channel, head .. sequence .. tail)
  return sequence
end
