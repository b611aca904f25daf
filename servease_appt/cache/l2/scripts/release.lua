#!lua
-- Release leases after a failed load, so that the next reader need not wait until they expire. A lease that was taken
-- over meanwhile belongs to its new owner and stays.
-- KEYS  leases        ARGV  for each the lease as it was granted
for i, lease in ipairs(KEYS) do
  if redis.pcall('GET', lease) == ARGV[i] then redis.call('DEL', lease) end
end
