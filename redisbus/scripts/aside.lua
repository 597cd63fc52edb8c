-- Adds an entry to the stream of those that were set aside, KEYS[1], of which it keeps
-- about ARGV[1].
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
