-- Makes the stream KEYS[1] and the group ARGV[1], at the position ARGV[2], if they are
-- missing, and returns the id of the stream's last entry. The position 'ago' is the time
-- ARGV[3] ms ago: ids begin with the time.
local at = ARGV[2]
if at == 'ago' then
  local t = redis.call('TIME')
  at = string.format('%.0f-0', math.max(t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[3], 0))
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], at, 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last = '0-0'
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
return last
