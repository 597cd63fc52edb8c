// Package wire encodes and decodes the messages that Socket.IO nodes exchange over Redis:
// those of @socket.io/redis-adapter's createAdapter (Classic) and createShardedAdapter
// (Sharded). It uses no Redis client, and of the library only internal/jsonscan.
//
// A process that can publish on the Redis server can send any bytes. So every decoder
// takes Limits, allocates in proportion to its input, recurses at most Limits.Depth deep,
// and returns an error for invalid input.
package wire

import (
	"encoding/json"
	"errors"
)

// Limits bound what a decoder accepts.
type Limits struct {
	Bytes       int // size of a message
	Depth       int // nesting depth of an argument
	Attachments int // number of binary values in an event
}

// The errors of the decoders.
var (
	ErrMalformed = errors.New("malformed message")
	ErrTooLarge  = errors.New("message too large")
	ErrTooDeep   = errors.New("message nested too deep")
	// ErrPlaceholder means a placeholder without its binary value. A client that receives
	// one closes its connection.
	ErrPlaceholder = errors.New("invalid binary placeholder")
)

// Args are the arguments of an event, with its name as the first one, or of an ack. They
// are JSON texts, in which {"_placeholder":true,"num":i} stands for Attachments[i].
type Args struct {
	Values      []json.RawMessage
	Attachments [][]byte
}

// Kind says what a Message is.
type Kind uint8

// Kinds of messages: first those to all nodes, then their answers.
const (
	Broadcast  Kind = iota + 1 // emit Args to the selected sockets
	Join                       // add the selected sockets to the rooms Targets
	Leave                      // remove them from the rooms Targets
	Disconnect                 // disconnect the selected sockets
	ServerEmit                 // pass Args to the nodes' own listeners; with a RequestID each node answers Emitted
	Fetch                      // describe the selected sockets
	Ask                        // emit Args to the selected sockets, with ack
	ListIDs                    // ids of the sockets in Rooms (Classic)
	ListRooms                  // all rooms (Classic)

	Fetched     // answer to Fetch
	Asked       // first answer to Ask: Count sockets have received the event
	Acked       // further answer to Ask: one client's ack
	AskDone     // last answer to Ask, between Go nodes: no ack will follow
	Emitted     // answer to ServerEmit
	ListedIDs   // answer to ListIDs
	ListedRooms // answer to ListRooms
	Applied     // answer to a Legacy message
)

// Revoke names the user or the login session that was revoked.
type Revoke struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// Message is one message in either protocol.
type Message struct {
	Kind      Kind
	UID       string // the sender; "emitter" or empty if it is not a node
	Namespace string
	RequestID string

	// The selected sockets: those in any of Rooms and in none of Except. No Rooms means
	// all sockets.
	Rooms  []string
	Except []string

	Targets  []string // of Join and Leave
	Close    bool     // of Disconnect: close the connection too
	Volatile bool
	Timeout  int     // of Ask: how long the sender waits for acks, in ms; 0: not given
	Revoke   *Revoke // of Disconnect, between Go nodes: the reason is a revocation
	Latest   string  // between Go nodes: the event replaces an unsent one with this key
	Mark     string  // of a Broadcast, between Go nodes: which event of its node it is
	Native   bool    // the sender is a Go node, which understands AskDone
	// Of a Fetch, between Go nodes: only the sockets with the Limit lowest ids after After; 0: all.
	After string
	Limit int
	// Counts is, between Go nodes, of a Fetch: the sender wants only the number of sockets; of a
	// Fetched: Count is that number, and Sockets is empty.
	Counts bool
	// Legacy marks a Join, Leave or Disconnect of one socket by its id, as socket.io-redis
	// sends it. The node that has the socket answers Applied.
	Legacy bool

	Args Args
	// packed are the arguments that Open decodes into Args.
	packed packed

	Sockets []Socket // of a Fetched answer
	Names   []string // of ListedIDs and ListedRooms
	Count   int      // of an Asked, or of a Fetched with Counts
}

// Socket describes a socket. Node servers send more, which is dropped: headers, tokens,
// and the application's data.
type Socket struct {
	ID         string
	Rooms      []string
	UserID     string
	UserType   string
	SessionID  string
	Connecting bool
	// ConnectedAt is when the socket was admitted, in microseconds since 1970; 0: unknown.
	ConnectedAt int64
}
