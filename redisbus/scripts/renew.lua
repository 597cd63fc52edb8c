-- Extends the lease KEYS[1] of ARGV[1] by ARGV[2] ms. One that has ended is not begun
-- again: meanwhile there may have been another owner.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
