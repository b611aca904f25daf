#!lua
-- Delete bytes that can't be decoded, unless they were replaced meanwhile.
-- KEYS  data keys     ARGV  for each the SHA-1 of the bytes that were read, which may be long
for i, data in ipairs(KEYS) do
  local value = redis.call('GET', data)
  if value and redis.sha1hex(value) == ARGV[i] then redis.call('DEL', data) end
end
