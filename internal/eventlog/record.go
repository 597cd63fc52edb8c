// Records: what a node tells the others of a socket, so that its client can return to one of them.

package eventlog

import (
	"encoding/base64"
	"time"
)

// Record describes a socket for other nodes.
type Record struct {
	ID     string         `json:"id"` // an ID in base64
	Turn   int            `json:"turn,omitempty"`
	Socket string         `json:"socket"`
	Rooms  []RecordedRoom `json:"rooms"`
	Former []string       `json:"former,omitempty"`
	Since  string         `json:"since"`            // a label, see Away.Since
	Least  string         `json:"least,omitempty"`  // a mark
	Beyond string         `json:"beyond,omitempty"` // a label
	After  string         `json:"after,omitempty"`  // a mark
	Node   string         `json:"node"`             // the Emitter of the socket's node
	// Doubts are as in Away.
	Doubts []RecordedDoubt `json:"doubts,omitempty"`
}

// RecordedRoom is a Room in a Record.
type RecordedRoom struct {
	Name  string `json:"name"`
	Since string `json:"since,omitempty"` // a label
	Again bool   `json:"again,omitempty"`
}

// ParseID reads the ID of a record.
func ParseID(text string) (id ID, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, true
}

// String returns the text of an ID.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseEmitter reads the name of a node.
func ParseEmitter(text string) (e Emitter, ok bool) {
	if len(text) != len(e) {
		return e, false
	}
	copy(e[:], text)
	return e, true
}

// Emitter returns the name of this node.
func (l *Log[M]) Emitter() Emitter { return l.cfg.Emitter }

// Record describes a socket. It is called between Pause and End.
func (l *Log[M]) Record(a *Away) Record {
	r := Record{ID: a.ID.String(), Turn: a.Turn, Socket: a.Socket, Former: a.Former, Since: a.Label, Node: string(l.cfg.Emitter[:])}
	if a.Least != (Mark{}) {
		r.Least = a.Least.String()
	}
	if a.After != (Mark{}) {
		r.Beyond, r.After = a.Beyond, a.After.String()
	}
	for _, d := range l.doubtsLocked(a) {
		recorded := RecordedDoubt{Until: d.Until.String()}
		if !d.Since.IsZero() {
			recorded.AgoMS = max(1, l.cfg.Now().Sub(d.Since).Milliseconds())
		}
		r.Doubts = append(r.Doubts, recorded)
	}
	for _, room := range a.Rooms {
		r.Rooms = append(r.Rooms, RecordedRoom{room.Name, room.Label, room.Again})
	}
	return r
}

// Left returns how long ago a socket of this node has left.
func (l *Log[M]) Left(a *Away) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg.Now().Sub(l.leftLocked(a))
}

// Each returns the sockets that are away and may return.
func (l *Log[M]) Each() (all []*Away) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.away {
		select {
		case <-a.settled:
			all = append(all, a)
		default:
		}
	}
	return all
}

// Received returns the record of a socket that is away, with what its client has received, whose last
// event had a label. ok is false if the client cannot recover. unshared is as for Lacks.
func (l *Log[M]) Received(a *Away, offset *string, unshared time.Time) (r Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.seenLocked(a, offset)
	if !ok || s.At > 0 && s.At < l.trimmed || !l.sharedLocked(s, unshared) || a.taken || l.away[a.ID] != a || l.cfg.Now().After(a.until) {
		return r, false
	}
	r = l.Record(a)
	r.Since, r.Least, r.Beyond, r.After = l.textLocked(s), "", "", ""
	return r, r.Since != ""
}

// Foreign returns the socket of a record of another node, which was last heard at a time. ok is false
// if the record is malformed, or of this node.
func (l *Log[M]) Foreign(r Record, lost time.Time, owner any) (a *Away, ok bool) {
	a, ok = l.OfRecord(r, lost, owner)
	return a, ok && a.Node != l.cfg.Emitter
}

// MaxRooms is the maximum number of rooms of a socket that other nodes are told of, and MaxFormer of those that it has left.
const (
	MaxRooms  = 4096
	MaxFormer = 64
)

// OfRecord is Foreign for any node.
func (l *Log[M]) OfRecord(r Record, lost time.Time, owner any) (a *Away, ok bool) {
	if len(r.Rooms) > MaxRooms || len(r.Former) > MaxFormer {
		return nil, false
	}
	a = &Away{Turn: r.Turn, Socket: r.Socket, Former: r.Former, Lost: lost, Owner: owner}
	if a.ID, ok = ParseID(r.ID); !ok {
		return nil, false
	}
	if a.Node, ok = ParseEmitter(r.Node); !ok || a.Here() {
		return nil, false
	}
	if a.Since, ok = l.Seen(r.Since); !ok || a.Since.partial {
		return nil, false
	}
	if _, ok = l.labelOr(r.Beyond); !ok {
		return nil, false
	}
	a.Beyond = r.Beyond
	for m, text := range map[*Mark]string{&a.Least: r.Least, &a.After: r.After} {
		if *m, ok = ParseMark(text); !ok && text != "" {
			return nil, false
		}
	}
	if a.Doubts, ok = l.doubtsOf(r.Doubts); !ok {
		return nil, false
	}
	for _, room := range r.Rooms {
		since, ok := l.labelOr(room.Since)
		if !ok {
			return nil, false
		}
		a.Rooms = append(a.Rooms, Room{Name: room.Name, Since: since, Label: room.Since, Again: room.Again})
	}
	return a, true
}

// labelOr is Seen for a label that names all nodes, or an empty text.
func (l *Log[M]) labelOr(text string) (s Seen, ok bool) {
	if text == "" {
		return s, true
	}
	s, ok = l.Seen(text)
	return s, ok && !s.partial
}
