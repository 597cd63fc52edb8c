-- Adds the node ARGV[1] to the members for ARGV[2] ms, and returns how many there are and
-- how many of them come before it in the order of their names. Members who stay much longer
-- than any node asks for are removed: the clock of Redis was set back, or somebody added them.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 2 * ARGV[2], '+inf')
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
local before = 0
for _, name in ipairs(members) do
  if name < ARGV[1] then before = before + 1 end
end
return {#members, before}
