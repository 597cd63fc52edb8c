-- Begins a script that only the owner ARGV[1] of the partition KEYS[2] may call.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return redis.error_reply('NOTOWNER of the partition')
end

-- bounded returns an entry's fields, or their size if that exceeds ARGV[4].
local function bounded(fields)
  local size = 0
  for _, field in ipairs(fields) do size = size + #field end
  if size > tonumber(ARGV[4]) then return size end
  return fields
end
