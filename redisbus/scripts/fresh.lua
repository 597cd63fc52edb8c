-- Hands the next ARGV[3] entries of KEYS[1] for the group ARGV[2] to the consumer ARGV[5],
-- and returns the id of the oldest entry in the stream with them.
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local read = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[5], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
if not read then return {'0-0', {}} end

local entries = {}
for _, entry in ipairs(read[1][2]) do
  table.insert(entries, {entry[1], 0, bounded(entry[2])})
end
return {oldest[1][1], entries}
