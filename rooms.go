// Rooms: who hears what. A room is a typed value; clients can never name one.

package realtime

import "strings"

// Room names a set of sockets within one namespace. Rooms come from the
// constructors below and compare with ==. The zero Room is nobody's: no socket
// enters it and nothing is sent to it. It is what a constructor returns for an id
// that is empty, longer than 256 bytes, or has a NUL in it, so that a mistake
// never puts strangers into one room.
type Room struct{ name string }

// validID reports whether an id may name a room.
func validID(id string) bool {
	return id != "" && len(id) <= maxID && strings.IndexByte(id, 0) < 0
}

func roomOf(prefix, id string) Room {
	if !validID(id) {
		return Room{}
	}
	return Room{prefix + id}
}

// String returns the room's name on the wire between nodes, such as "driver:42".
func (r Room) String() string { return r.name }

// DriverRoom holds every socket of one driver in /drivers.
func DriverRoom(driverID string) Room { return roomOf("driver:", driverID) }

// PassengerRoom holds every socket of one passenger in /passengers.
func PassengerRoom(passengerID string) Room { return roomOf("passenger:", passengerID) }

// AdminUserRoom holds every socket of one user in /admin.
func AdminUserRoom(userID string) Room { return roomOf("admin:user:", userID) }

// SessionRoom holds every socket of one login session, in each namespace.
func SessionRoom(sid string) Room { return roomOf("session:", sid) }

// TripRoom holds, in each namespace, the sockets that follow one trip: its
// driver, its passenger, and the admins who joined it.
func TripRoom(tripID string) Room { return roomOf(tripPrefix, tripID) }

// Rooms of /admin.
var (
	AdminAllRoom     = Room{"admin:all"}     // every admin
	AdminDriversRoom = Room{"admin:drivers"} // admins who watch all drivers' positions
)

// UserRoom holds every socket of one user in a namespace of the host's own.
func UserRoom(userID string) Room { return roomOf("user:", userID) }

// NewRoom names a room of the host's own, such as NewRoom("zone", "havana").
// The kinds driver, passenger, admin, session, trip and user are the library's.
func NewRoom(kind, id string) Room { return roomOf(kind+":", id) }

const tripPrefix = "trip:"

// tripOf returns the trip that a room belongs to.
func tripOf(room string) (tripID string, ok bool) { return strings.CutPrefix(room, tripPrefix) }

// ownRoom is the room of all sockets of a user in a namespace.
func ownRoom(namespace, userID string) Room {
	if b := builtinByName(namespace); b != nil {
		return b.ownRoom(userID)
	}
	return UserRoom(userID)
}

// connectRooms are the rooms that a socket joins when it connects.
func connectRooms(namespace string, id Identity) []string {
	var common []Room
	if b := builtinByName(namespace); b != nil {
		common = b.common
	}
	return names(append(common[:len(common):len(common)], ownRoom(namespace, id.UserID), SessionRoom(id.SessionID)))
}
