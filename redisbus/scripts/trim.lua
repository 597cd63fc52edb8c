-- Removes what all groups of the stream KEYS[1] have handled, by whole blocks. The last
-- handled entry stays: where it is missing, later ones may be missing, too.
local function before(a, b)
  local aTime, aNumber = string.match(a, '(%d+)-(%d+)')
  local bTime, bNumber = string.match(b, '(%d+)-(%d+)')
  if #aTime ~= #bTime then return #aTime < #bTime end
  if aTime ~= bTime then return aTime < bTime end
  if #aNumber ~= #bNumber then return #aNumber < #bNumber end
  return aNumber < bNumber
end

local keep
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
  local at = info['last-delivered-id']
  if info['pending'] > 0 then
    at = redis.call('XPENDING', KEYS[1], info['name'], '-', '+', 1)[1][1]
  end
  if not keep or before(at, keep) then keep = at end
end
if not keep then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', keep)
