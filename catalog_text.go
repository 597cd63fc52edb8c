// Catalog texts: the descriptions of refused handshakes and of how connections end, as
// docs/events.md shows them. Texts only.

package realtime

// refusalDocs describes the codes of a refused CONNECT, in the order of the checks.
var refusalDocs = []RefusalDoc{
	{CodeMissingToken, connectMessages[CodeMissingToken], "Neither `auth.token` nor the Authorization header has a token.", "log in"},
	{CodeInvalidToken, connectMessages[CodeInvalidToken], "The token is invalid: its signature does not verify, it has no `exp`, it is too long, or it is not a string.", "log in"},
	{CodeTokenExpired, connectMessages[CodeTokenExpired], "The token is valid, but has expired. With `Options.Compat.RetryExpired` the server closes the connection instead, and the client tries again by itself.", "get a new token and connect again"},
	{CodeMissingClaims, connectMessages[CodeMissingClaims], "The token names no user or no login session.", "log in"},
	{CodeUserNotFound, connectMessages[CodeUserNotFound], "There is no such user.", "log in"},
	{CodeWrongUserType, connectMessages[CodeWrongUserType], "The user's type may not enter the namespace.", "use another namespace"},
	{CodeUserInactive, connectMessages[CodeUserInactive], "The user was banned or deactivated.", "log out"},
	{CodeInvalidSession, connectMessages[CodeInvalidSession], "The login session does not exist, belongs to another user, or was revoked.", "log in"},
	{CodeAccessExpired, connectMessages[CodeAccessExpired], "The login session's access has expired. `Options.Compat.RetryExpired` is for this code too.", "get a new token and connect again"},
	{CodeRateLimited, connectMessages[CodeRateLimited], "The connection or the user connects too often, or has too many sockets.", "wait, then connect again"},
	{CodeUnavailable, connectMessages[CodeUnavailable],
		"The server could not make the checks. It sends this code only with `Options.Compat.RefuseUnavailable`; by default it closes the connection, and the client tries again by itself.",
		"connect again"},
}

// endingDocs describes how connections end. A stock client reconnects by itself when its
// transport closes, but not after a DISCONNECT or a CONNECT_ERROR.
var endingDocs = []EndingDoc{
	{"The login session was revoked, or the user was banned, deactivated or given another type", "`auth:session_revoked`",
		"DISCONNECT (`io server disconnect`) of every socket of the session, or of the user", "does not reconnect: log out"},
	{"The token or the login session expired and was not renewed; or a socket of the old session did not send `auth:refresh` in time after `auth:session_refreshed`; or the login session does not exist any more, because another one has replaced it", "`auth:expired`",
		"the connection is closed", "reconnects by itself: send a new token with each attempt"},
	{"A CONNECT was refused", "-", "CONNECT_ERROR with a code, see above", "does not reconnect until the app connects again"},
	{"The server cannot make the checks of a CONNECT, for instance because a database does not answer", "-", "the connection is closed after some seconds", "reconnects by itself"},
	{"The node shuts down", "`server:drain`", "the connection is closed", "reconnects by itself, to another node; `server:drain` says after what delay"},
	{"The client does not read fast enough, does not answer a ping, breaks the protocol, or sends too large a message", "-",
		"the connection is closed", "reconnects by itself; load the current state again, unless `hello` has `recovered: true`"},
	{"Events are refused as `rate_limited` for too long", "acks with `rate_limited`", "the connection is closed", "reconnects by itself: send less"},
	{"That happens to the user again within 5 minutes", "acks with `rate_limited`", "DISCONNECT", "does not reconnect: connect again after a while, and send less"},
	{"The user has more than `Limits.SocketsPerUser` sockets in the namespace: the oldest ends", "-", "DISCONNECT", "does not reconnect: connect again only when the user asks for it, or another device is disconnected in turn"},
	{"The host disconnects the socket", "what the host has emitted before", "DISCONNECT", "does not reconnect until the app connects again"},
	{"The host closes the connection", "what the host has emitted before", "the connection is closed", "reconnects by itself"},
	{"The server's handler of an event does not return in time", "the event's ack, with `unavailable`", "the connection is closed",
		"reconnects by itself; load the current state again, unless `hello` has `recovered: true`"},
	{"The client goes on sending CONNECTs beyond `Options.Rates.Connect`", "CONNECT_ERROR with `rate_limited`", "the connection is closed", "reconnects by itself"},
	{"The server is full: it closes a connection without a user, or one whose message is incomplete, in favor of another one", "-",
		"the connection is closed", "reconnects by itself"},
	{"The connection enters no namespace within `Options.Timeouts.Connect`", "-", "the connection is closed", "reconnects by itself"},
}
