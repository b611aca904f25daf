#!lua
-- Give leases back after a failed load, so that the next reader need not wait them out.
-- KEYS  leases        ARGV  for each the token it was granted to
for i, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[i] then redis.call('DEL', lease) end
end
