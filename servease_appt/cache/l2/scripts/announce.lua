-- Included by the scripts that change what L1 may hold: count the sequence up and publish, in one step with the
-- change, so that no crash and no reader can come between (races R4, R5). Returns the new sequence number.
local function announce(sequence_key, channel, head, tail)
  -- A sequence that was lost (FLUSHDB, eviction, failover) starts anew from the clock, so that no worker can take
  -- it for the old one.
  local function start_anew()
    local now = redis.call('TIME')
    redis.call('SET', sequence_key, now[1] .. string.format('%06d', now[2]))
  end
  if redis.call('EXISTS', sequence_key) == 0 then start_anew() end
  local counted = redis.pcall('INCR', sequence_key)
  if type(counted) == 'table' then -- overwritten by hand with what is no number
    start_anew()
    counted = redis.call('INCR', sequence_key)
  end
  local sequence = string.format('%.0f', counted)
  redis.call('PUBLISH', channel, head .. sequence .. tail)
  return sequence
end
