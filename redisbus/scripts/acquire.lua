-- Gives the partition's lease, KEYS[1], to ARGV[1] for ARGV[2] ms if it has no owner. The
-- caller's own earlier call, whose answer was lost, is no obstacle.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
