// Rooms: named sets of sockets. A room is a typed value, and clients can never name one.

package realtime

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Room names a set of sockets within one namespace. The constructors below return rooms,
// and rooms compare with ==. The zero Room is always empty: no socket joins it and no
// event is sent to it. A constructor returns it for an id that is empty, longer than 256
// bytes, or contains NUL or invalid UTF-8, so that a missing id never puts sockets of
// different users into one room.
type Room struct{ name string }

// validID reports whether an id can be part of a room's name.
func validID(id string) bool {
	return id != "" && len(id) <= maxID && isText(id)
}

// valid reports whether other nodes accept the type. An empty one is valid.
func (t UserType) valid() bool { return len(t) <= maxUserType && isText(string(t)) }

// isText reports whether a name arrives at other nodes as it is: JSON replaces invalid UTF-8,
// which would make one name of two.
func isText(name string) bool { return strings.IndexByte(name, 0) < 0 && utf8.ValidString(name) }

// roomOf returns the room of an id, or the zero Room if the id is invalid.
func roomOf(prefix, id string) Room {
	if !validID(id) {
		return Room{}
	}
	return Room{prefix + id}
}

// String returns the room's name on the wire between nodes, such as "driver:42", or
// "host:zone:havana" for NewRoom("zone", "havana").
func (r Room) String() string { return r.name }

// DriverRoom holds every socket of one driver in /drivers.
func DriverRoom(driverID string) Room { return roomOf("driver:", driverID) }

// PassengerRoom holds every socket of one passenger in /passengers.
func PassengerRoom(passengerID string) Room { return roomOf("passenger:", passengerID) }

// AdminUserRoom holds every socket of one user in /admin.
func AdminUserRoom(userID string) Room { return roomOf("admin:user:", userID) }

// SessionRoom holds every socket of one login session, in each namespace.
func SessionRoom(sessionID string) Room { return roomOf(sessionPrefix, sessionID) }

// TripRoom holds, in each namespace, the sockets that follow one trip: its
// driver, its passenger, and the admins who joined it.
func TripRoom(tripID string) Room { return roomOf(tripPrefix, tripID) }

// Rooms of /admin.
var (
	AdminAllRoom     = Room{"admin:all"}     // every admin
	AdminDriversRoom = Room{"admin:drivers"} // admins who receive the positions of all drivers: every admin, until they leave the room
)

// UserRoom holds every socket of one user in a namespace of the host's own.
func UserRoom(userID string) Room { return roomOf("user:", userID) }

// hostPrefix begins the name of every room of the host's own, and of no room of the
// library, also not of kinds that a later version adds.
const hostPrefix = "host:"

// escapeKind escapes colons in a kind, because a colon separates the kind from the id.
var escapeKind = strings.NewReplacer("%", "%25", ":", "%3A")

// NewRoom returns a room of the host's own, such as NewRoom("zone", "havana"). Different
// pairs of kind and id are always different rooms, and a room of the host is never one of
// the library, so kind and id may come from untrusted input. Like an id, a kind must not
// be empty, longer than 256 bytes, or contain NUL or invalid UTF-8; NewRoom then returns the
// zero Room.
func NewRoom(kind, id string) Room {
	if !validID(kind) {
		return Room{}
	}
	if strings.ContainsAny(kind, "%:") {
		kind = escapeKind.Replace(kind)
	}
	return roomOf(hostPrefix+kind+":", id)
}

// MarshalText implements encoding.TextMarshaler: it returns the room's name.
func (r Room) MarshalText() ([]byte, error) { return []byte(r.name), nil }

// UnmarshalText implements encoding.TextUnmarshaler: it reads a name that MarshalText
// wrote, or that a node of another system uses. The text can name any room, also one of
// the library, so do not use it for input from clients.
func (r *Room) UnmarshalText(text []byte) error {
	if len(text) > 0 && !validRoomName(string(text)) {
		return errRoomName
	}
	r.name = string(text)
	return nil
}

// maxRoomName is the length of the longest name that a constructor returns, with an
// escaped kind, in bytes.
const maxRoomName = len(hostPrefix) + 3*maxID + 1 + maxID

var errRoomName = errors.New("realtime: the name of a room is too long, or contains NUL or invalid UTF-8")

// validRoomName reports whether a name may be a room's, including rooms of other systems.
func validRoomName(name string) bool {
	return name != "" && len(name) <= maxRoomName && isText(name)
}

// roomsNamed returns the rooms with these names.
func roomsNamed(names []string) []Room {
	rooms := make([]Room, len(names))
	for i, name := range names {
		rooms[i] = Room{name}
	}
	return rooms
}

// names returns the names of the rooms, without zero Rooms.
func names(rooms []Room) []string { return appendNames(make([]string, 0, len(rooms)), rooms) }

func appendNames(to []string, rooms []Room) []string {
	for _, r := range rooms {
		if r.name != "" {
			to = append(to, r.name)
		}
	}
	return to
}

const (
	tripPrefix    = "trip:"
	sessionPrefix = "session:"
)

// tripOf returns the trip's id from the name of a trip room. ok is false for other rooms.
func tripOf(room string) (tripID string, ok bool) { return strings.CutPrefix(room, tripPrefix) }

// ownRoom returns the room of all sockets of a user in a namespace.
func ownRoom(namespace, userID string) Room {
	if b := builtinByName(namespace); b != nil {
		return b.ownRoom(userID)
	}
	return UserRoom(userID)
}

// connectRooms returns the names of the rooms that a socket joins when it connects. own are the
// user's and the session's.
func connectRooms(namespace string, own [2]Room) []string {
	var common []Room
	if b := builtinByName(namespace); b != nil {
		common = b.common
	}
	rooms := make([]string, 0, len(common)+len(own))
	return appendNames(appendNames(rooms, common), own[:])
}
