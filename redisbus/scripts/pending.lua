-- Returns the id of the last entry of KEYS[1] that the group ARGV[2] was handed, and the
-- first ARGV[3] of those that it has not acknowledged, each with how often it was begun.
-- Removed ones are acknowledged. When there is none, consumers other than ARGV[5] are
-- removed: they are not the owner.
local last = '0-0'
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
  if info['name'] == ARGV[2] then last = info['last-delivered-id'] end
end

local entries = {}
for _, p in ipairs(redis.call('XPENDING', KEYS[1], ARGV[2], '-', '+', ARGV[3])) do
  local id, begun = p[1], p[4]
  local found = redis.call('XRANGE', KEYS[1], id, id)
  if #found == 0 then
    redis.call('XACK', KEYS[1], ARGV[2], id)
    table.insert(entries, {id, begun})
  else
    table.insert(entries, {id, begun, bounded(found[1][2])})
  end
end

if #entries == 0 then
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[2])) do
    local name = consumer[2]
    if name ~= ARGV[5] then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], name) end
  end
end
return {last, entries}
