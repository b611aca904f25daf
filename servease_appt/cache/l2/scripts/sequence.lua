-- Count the sequence up and return its new number, for the scripts that announce a change. One that was lost (FLUSHDB,
-- eviction, failover) starts anew from the clock, so that no worker can take it for the old one.
local function count_up(sequence)
  local function start_anew()
    local now = redis.call('TIME')
    redis.call('SET', sequence, now[1] .. string.format('%06d', now[2]))
  end
  if redis.call('EXISTS', sequence) == 0 then start_anew() end
  local counted = redis.pcall('INCR', sequence)
  if type(counted) == 'table' then -- overwritten by hand with what is no number
    start_anew()
    counted = redis.call('INCR', sequence)
  end
  return string.format('%.0f', counted)
end
