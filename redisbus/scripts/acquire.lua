-- Gives the partition's lease, KEYS[1], to ARGV[1] for ARGV[2] ms if it has no owner. The
-- caller's own earlier call, whose answer was lost, is no obstacle. Nor is a lease that ends
-- much later than any owner asks for: the clock of Redis was set back, or somebody wrote it.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  local rest = redis.call('PTTL', KEYS[1])
  if rest >= 0 and rest <= 2 * ARGV[2] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
