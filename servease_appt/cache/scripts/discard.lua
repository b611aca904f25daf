#!lua
-- Delete bytes that can't be read, unless somebody has replaced them meanwhile.
-- KEYS  data keys     ARGV  for each the bytes that were seen
for i, data in ipairs(KEYS) do
  if redis.call('GET', data) == ARGV[i] then redis.call('DEL', data) end
end
