// Package wire encodes and decodes what Socket.IO nodes send each other over
// Redis: the messages of @socket.io/redis-adapter's createAdapter (Classic) and
// of its createShardedAdapter (Sharded). It knows no Redis client and nothing of
// the rest of the library.
//
// Whoever can publish on the Redis server can send anything, so every decoder
// takes Limits, allocates in proportion to what it was given, recurses no
// deeper than Limits.Depth, and returns an error for everything else.
package wire

import (
	"encoding/json"
	"errors"
)

// Limits bound what a decoder accepts.
type Limits struct {
	Bytes       int // of a whole message
	Depth       int // arrays and objects open at once within an argument
	Attachments int // binary values of one event
}

// Why a decoder refuses a message.
var (
	ErrMalformed = errors.New("malformed message")
	ErrTooLarge  = errors.New("message too large")
	ErrTooDeep   = errors.New("message nested too deep")
	// ErrPlaceholder means an object that looks like the stand-in for a binary
	// value where there is none to stand for: forwarded, it would make clients
	// close their connections.
	ErrPlaceholder = errors.New("invalid binary placeholder")
)

// Args are the arguments of an event, its name included, or of an ack: JSON
// texts in which {"_placeholder":true,"num":i} stands for Attachments[i].
type Args struct {
	Values      []json.RawMessage
	Attachments [][]byte
}

// Kind says what a Message is.
type Kind uint8

// Kinds of messages. The first group goes to all nodes, the second is their
// answers.
const (
	Broadcast  Kind = iota + 1 // emit Args to the selected sockets
	Join                       // put the selected sockets into Targets
	Leave                      // take them out
	Disconnect                 // end them
	ServerEmit                 // hand Args to the nodes' own listeners; with a RequestID an Emitted is expected
	Fetch                      // describe the selected sockets
	Ask                        // emit Args to the selected sockets, with ack
	ListIDs                    // ids of the sockets in Rooms (Classic)
	ListRooms                  // all rooms (Classic)

	Fetched     // answer to Fetch
	Asked       // first answer to Ask: Count sockets are asked
	Acked       // further answer to Ask: one client's ack
	AskDone     // last answer to Ask, between Go nodes: no ack will follow
	Emitted     // answer to ServerEmit
	ListedIDs   // answer to ListIDs
	ListedRooms // answer to ListRooms
	Applied     // answer to a Legacy message
)

// Revoke says whose rights have ended: a user's, or a login session's.
type Revoke struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// Message is one message in either protocol.
type Message struct {
	Kind      Kind
	UID       string // the sender; "emitter" or empty when it is no node
	Namespace string
	RequestID string

	// The selected sockets: those in any of Rooms (all, when there are none)
	// and in none of Except.
	Rooms  []string
	Except []string

	Targets  []string // of Join and Leave
	Close    bool     // of Disconnect: end the transport too
	Volatile bool
	Timeout  int     // ms, of an Ask: how long acks are waited for, zero if unsaid
	Revoke   *Revoke // of Disconnect, between Go nodes: whose rights have ended
	Latest   string  // between Go nodes: replace an unsent event of this key
	Native   bool    // the sender is a Go node, which takes AskDone
	// Legacy marks a Join, Leave or Disconnect for one socket by id, as
	// socket.io-redis sent it: the node that has the socket answers Applied.
	Legacy bool

	Args Args
	// packed is what Open turns into Args.
	packed packed

	Sockets []Socket // of a Fetched answer
	Names   []string // of ListedIDs and ListedRooms
	Count   int      // of an Asked
}

// Socket describes a socket. Of what a Node sends nothing else is kept: no
// header, no token, no data of the application.
type Socket struct {
	ID         string
	Rooms      []string
	UserID     string
	UserType   string
	SessionID  string
	Connecting bool
}
