// What the catalog says about refused handshakes and about how a connection ends.

package realtime

// refusalDocs are in the order of the checks.
var refusalDocs = []RefusalDoc{
	{CodeMissingToken, connectMessages[CodeMissingToken], "There is no token in `auth.token`, nor in the Authorization header.", "log in"},
	{CodeInvalidToken, connectMessages[CodeInvalidToken], "The token does not verify, has no `exp`, is too long, or is no string.", "log in"},
	{CodeTokenExpired, connectMessages[CodeTokenExpired], "The token verifies, but has expired.", "get a fresh token and connect again"},
	{CodeMissingClaims, connectMessages[CodeMissingClaims], "The token names no user or no login session.", "log in"},
	{CodeUserNotFound, connectMessages[CodeUserNotFound], "There is no such user.", "log in"},
	{CodeWrongUserType, connectMessages[CodeWrongUserType], "The user's type may not enter the namespace.", "use another namespace"},
	{CodeUserInactive, connectMessages[CodeUserInactive], "The user was banned or deactivated.", "log out"},
	{CodeInvalidSession, connectMessages[CodeInvalidSession], "The login session does not exist, belongs to another user, or was revoked.", "log in"},
	{CodeAccessExpired, connectMessages[CodeAccessExpired], "The login session's access has expired.", "get a fresh token and connect again"},
	{CodeRateLimited, connectMessages[CodeRateLimited], "The connection or the user connects too often, or has too many sockets.", "wait, then connect again"},
	{CodeUnavailable, connectMessages[CodeUnavailable],
		"The server could not tell. Sent with `Options.Compat.RefuseUnavailable` only; by default the connection is closed, and the client tries again by itself.",
		"connect again"},
}

// endingDocs say what a stock client does, which reconnects by itself when its
// transport closes, and not after a DISCONNECT or a CONNECT_ERROR.
var endingDocs = []EndingDoc{
	{"The login session was revoked, the user banned or deactivated, or given another type", "`auth:session_revoked`",
		"DISCONNECT (`io server disconnect`) of every socket that it concerns", "stays away: log out"},
	{"The token or the login session expired and was not renewed; or an old session was not renewed in time after `auth:session_refreshed`", "`auth:expired`",
		"the connection is closed", "comes back by itself: send a fresh token with each attempt"},
	{"A CONNECT was refused", "-", "CONNECT_ERROR with a code, see above", "stays away until the app connects again"},
	{"The handshake could not be decided", "-", "the connection is closed after some seconds", "comes back by itself"},
	{"The node shuts down", "`server:drain`", "the connection is closed", "comes back by itself, to another node, after `reconnectAfterMs`"},
	{"The client does not read fast enough, does not answer a ping, breaks the protocol, or sends too large a message", "-",
		"the connection is closed", "comes back by itself; load the present state again"},
	{"Events are refused as `rate_limited` for too long", "acks with `rate_limited`", "DISCONNECT", "stays away: send less"},
	{"The user has more than `Limits.SocketsPerUser` sockets in the namespace: the oldest ends", "-", "DISCONNECT", "stays away"},
	{"The connection enters no namespace within `Options.Timeouts.Connect`", "-", "the connection is closed", "comes back by itself"},
}
