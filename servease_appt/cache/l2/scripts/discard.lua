#!lua
-- Delete bytes that can't be read, unless somebody has replaced them meanwhile.
-- KEYS  data keys     ARGV  for each the SHA-1 of the bytes that were seen, which may be many
for i, data in ipairs(KEYS) do
  local value = redis.call('GET', data)
  if value and redis.sha1hex(value) == ARGV[i] then redis.call('DEL', data) end
end
