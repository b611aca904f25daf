#!lua
-- Give leases back after a failed load, so that the next reader need not wait them out. One that was taken over
-- meanwhile is its new owner's.
-- KEYS  leases        ARGV  for each the lease as it was granted
for i, lease in ipairs(KEYS) do
  if redis.pcall('GET', lease) == ARGV[i] then redis.call('DEL', lease) end
end
