// Rooms: who hears what. A room is a typed value; clients can never name one.

package realtime

import "strings"

// Room names a set of sockets within one namespace. Rooms come from the
// constructors below and compare with ==; the zero Room is nobody's.
type Room struct{ name string }

// String returns the room's name on the wire between nodes, such as "driver:42".
func (r Room) String() string { return r.name }

// DriverRoom holds every socket of one driver in /drivers.
func DriverRoom(driverID string) Room { return Room{"driver:" + driverID} }

// PassengerRoom holds every socket of one passenger in /passengers.
func PassengerRoom(passengerID string) Room { return Room{"passenger:" + passengerID} }

// AdminUserRoom holds every socket of one user in /admin.
func AdminUserRoom(userID string) Room { return Room{"admin:user:" + userID} }

// SessionRoom holds every socket of one login session, in each namespace.
func SessionRoom(sid string) Room { return Room{"session:" + sid} }

// TripRoom holds, in each namespace, the sockets that follow one trip: its
// driver, its passenger, and the admins who joined it.
func TripRoom(tripID string) Room { return Room{tripPrefix + tripID} }

// Rooms of /admin.
var (
	AdminAllRoom     = Room{"admin:all"}     // every admin
	AdminDriversRoom = Room{"admin:drivers"} // admins who watch all drivers' positions
)

// UserRoom holds every socket of one user in a namespace of the host's own.
func UserRoom(userID string) Room { return Room{"user:" + userID} }

// NewRoom names a room of the host's own, such as NewRoom("zone", "havana").
// The kinds driver, passenger, admin, session, trip and user are the library's.
func NewRoom(kind, id string) Room { return Room{kind + ":" + id} }

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
