// Redaction: what of a name may be shown.

package realtimeadmin

import (
	"strings"
	"unicode/utf8"

	"github.com/rodando/realtime"
)

// other replaces what is not a constant of package realtime.
const other = "other"

// ownPrefixes begin the names of the library's own rooms. What follows is an id.
var ownPrefixes = [...]string{"driver:", "passenger:", "admin:", "trip:", "user:", "session:"}

// isOwn reports whether a room is one that the library names itself.
func isOwn(room string) bool {
	for _, p := range ownPrefixes {
		if strings.HasPrefix(room, p) {
			return true
		}
	}
	return false
}

// shownAudience returns the text of a realtime.Audience up to the first room that is not the library's own.
// An id with a space in it ends there too.
func (r *records) shownAudience(text string) string {
	if r.hostRooms {
		return clip(text, maxAudience)
	}
	namespace, rooms, _ := strings.Cut(text, " ")
	if namespace == "every" { // "every namespace"
		var word string
		word, rooms, _ = strings.Cut(rooms, " ")
		namespace += " " + word
	}
	shown := []string{namespace}
	for room := range strings.SplitSeq(rooms, " ") {
		if room != "everybody" && !isOwn(room) {
			shown = append(shown, "…")
			break
		}
		shown = append(shown, room)
	}
	return clip(strings.Join(shown, " "), maxAudience)
}

const (
	maxAudience = 512
	maxName     = 256 // bytes of an id or a name
)

// clip returns the first bytes of a text, up to a whole letter.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most]) // what is cut off is not kept in memory
}

// validID reports whether a text can be an id of the library's.
func validID(id string) bool {
	return id != "" && len(id) <= maxName && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0
}

// resultOf returns "ok" for no code, and other for one that is not a constant.
func resultOf(c realtime.Code) string {
	switch {
	case c == "":
		return "ok"
	case c.Known():
		return string(c)
	}
	return other
}
