// Package bare is the least that answers Socket.IO 5 over Engine.IO 4 for the
// generator's contract: packets written out by hand, frames made once, no
// library on top. It is the practical limit of speed, not something to ship.
package bare

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rodando/realtime/bench/peers/contract"
)

// coalesce joins what is queued for a client into one write.
var coalesce = os.Getenv("COALESCE") != ""

// A Client is one connection. Write writes whole frames, Close ends it.
type Client struct {
	Write func(frames []byte)
	Close func()

	mu    sync.Mutex
	out   []byte
	nsp   *namespace
	id    string
	rooms [2]string
	shard int
}

type namespace struct {
	name  string
	mu    sync.RWMutex
	rooms map[string]map[*Client]struct{}
}

const shards = 16 // of the heartbeat: each beats at a time of its own

// A Hub is all clients.
type Hub struct {
	nsps map[string]*namespace
	open string // what follows the session's id in the open packet
	mu   sync.Mutex
	all  [shards]map[*Client]struct{}
	next int
}

// NewHub returns a Hub, which can send heartbeats itself.
func NewHub(beats bool) *Hub {
	h := &Hub{nsps: map[string]*namespace{}}
	for _, n := range []string{"/drivers", "/passengers", "/admin"} {
		h.nsps[n] = &namespace{name: n, rooms: map[string]map[*Client]struct{}{}}
	}
	for i := range h.all {
		h.all[i] = map[*Client]struct{}{}
	}
	interval := contract.PingInterval()
	h.open = `","upgrades":[],"pingInterval":` + strconv.FormatInt(interval.Milliseconds(), 10) + `,"pingTimeout":20000,"maxPayload":1000000}`
	if beats {
		go func() {
			for i := 0; ; i++ {
				time.Sleep(interval / shards)
				h.Beat(i)
			}
		}()
	}
	return h
}

// Handle mounts the hub's clients and the endpoints under /bench/ on a new mux.
func (h *Hub) Handle(upgrade http.HandlerFunc) *http.ServeMux {
	mux := http.NewServeMux()
	var b Batch // one request at a time: the generator sends the next after the answer
	contract.Mount(mux, func(nsp, room, event string, i int) { h.Emit(nsp, room, event, i, &b) }, b.Flush)
	if upgrade != nil {
		mux.HandleFunc("/socket.io/", upgrade)
	}
	return mux
}

var pingFrame = frame([]byte("2"))

// Beat sends a heartbeat to the shard-th part of the clients.
func (h *Hub) Beat(shard int) {
	h.mu.Lock()
	part := h.all[shard%shards]
	list := make([]*Client, 0, len(part))
	for c := range part {
		list = append(list, c)
	}
	h.mu.Unlock()
	for _, c := range list {
		c.mu.Lock()
		c.Write(pingFrame)
		c.mu.Unlock()
	}
}

func frame(p []byte) []byte {
	b := make([]byte, 0, len(p)+4)
	if len(p) < 126 {
		b = append(b, 0x81, byte(len(p)))
	} else {
		b = append(b, 0x81, 126, byte(len(p)>>8), byte(len(p)))
	}
	return append(b, p...)
}

func newID() string {
	var b [15]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// A Batch is what one turn of a loop, or one message, gives rise to.
type Batch struct{ dirty []*Client }

// Batches keeps batches for servers that handle each connection by itself.
var Batches = sync.Pool{New: func() any { return &Batch{} }}

func (b *Batch) send(c *Client, frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !coalesce {
		c.Write(frame)
		return
	}
	if len(c.out) == 0 {
		b.dirty = append(b.dirty, c)
	}
	c.out = append(c.out, frame...)
}

// Flush writes what was queued.
func (b *Batch) Flush() {
	for _, c := range b.dirty {
		c.mu.Lock()
		if len(c.out) > 0 {
			c.Write(c.out)
			if cap(c.out) > 1024 {
				c.out = nil
			} else {
				c.out = c.out[:0]
			}
		}
		c.mu.Unlock()
	}
	b.dirty = b.dirty[:0]
}

// Open takes a client in.
func (h *Hub) Open(c *Client) {
	h.mu.Lock()
	c.shard = h.next % shards
	h.next++
	h.all[c.shard][c] = struct{}{}
	h.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Write(frame([]byte(`0{"sid":"` + newID() + h.open)))
}

// Gone forgets a client.
func (h *Hub) Gone(c *Client) {
	h.mu.Lock()
	delete(h.all[c.shard], c)
	h.mu.Unlock()
	n := c.nsp
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range c.rooms {
		members := n.rooms[r]
		delete(members, c)
		if len(members) == 0 {
			delete(n.rooms, r)
		}
	}
}

func (n *namespace) join(c *Client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range c.rooms {
		members := n.rooms[r]
		if members == nil {
			members = make(map[*Client]struct{}, 1)
			n.rooms[r] = members
		}
		members[c] = struct{}{}
	}
}

func (n *namespace) emit(room string, b *Batch, frame []byte) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for c := range n.rooms[room] {
		b.send(c, frame)
	}
}

func (n *namespace) empty(room string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.rooms[room]) == 0
}

// HandleText handles one text message of c, and writes what it gave rise to.
func (h *Hub) HandleText(c *Client, p []byte) {
	b := Batches.Get().(*Batch)
	h.Text(c, p, b)
	b.Flush()
	Batches.Put(b)
}

// Text handles one text message of c.
func (h *Hub) Text(c *Client, p []byte, b *Batch) {
	if len(p) < 2 || p[0] != '4' {
		return
	}
	switch p[1] {
	case '0':
		h.connect(c, p[2:], b)
	case '1':
		c.Close()
	case '2':
		h.ping(c, p[2:], b)
	}
}

func (h *Hub) connect(c *Client, p []byte, b *Batch) {
	name, auth, _ := bytes.Cut(p, []byte{','})
	n := h.nsps[string(name)]
	token, ok := bytes.CutPrefix(auth, []byte(`{"token":"`))
	var sub, sid string
	if n != nil && ok {
		sub, sid, ok = verify(bytes.TrimSuffix(token, []byte(`"}`)))
	}
	if n == nil || !ok {
		b.send(c, frame([]byte(`44`+string(name)+`,{"message":"unauthorized"}`)))
		return
	}
	c.nsp, c.id, c.rooms = n, sub, contract.Rooms(n.name, sub, sid)
	n.join(c)
	b.send(c, frame([]byte(`40`+n.name+`,{"sid":"`+newID()+`"}`)))
	b.send(c, frame([]byte(`42`+n.name+`,["hello",{"ok":true,"nsp":"`+n.name+`"}]`)))
}

// verify checks an HS256 token, and nothing of its header.
func verify(token []byte) (sub, sid string, ok bool) {
	i, j := bytes.IndexByte(token, '.'), bytes.LastIndexByte(token, '.')
	if i < 0 || i == j {
		return "", "", false
	}
	m := hmac.New(sha256.New, contract.Secret)
	m.Write(token[:j])
	var want [43]byte
	base64.RawURLEncoding.Encode(want[:], m.Sum(nil))
	if !hmac.Equal(want[:], token[j+1:]) {
		return "", "", false
	}
	var buf [512]byte
	if base64.RawURLEncoding.DecodedLen(j-i-1) > len(buf) {
		return "", "", false
	}
	n, err := base64.RawURLEncoding.Decode(buf[:], token[i+1:j])
	if err != nil {
		return "", "", false
	}
	var c struct {
		Sub, Sid string
		Exp      int64
	}
	if json.Unmarshal(buf[:n], &c) != nil || c.Exp < time.Now().Unix() {
		return "", "", false
	}
	return c.Sub, c.Sid, true
}

func (h *Hub) ping(c *Client, p []byte, b *Batch) {
	if c.nsp == nil || len(p) < len(c.nsp.name)+1 {
		return
	}
	p = p[len(c.nsp.name)+1:]
	digits := 0
	for digits < len(p) && p[digits] >= '0' && p[digits] <= '9' {
		digits++
	}
	id := p[:digits]
	body, ok := bytes.CutPrefix(p[digits:], []byte(`["driver:location:ping",`))
	if !ok || len(body) == 0 {
		return
	}
	var at contract.Position
	if !scan(body[:len(body)-1], &at) {
		return
	}
	var buf [256]byte
	o := append(buf[:0], `["driver:location:update",{"driverId":"`...)
	o = append(o, c.id...)
	o = append(o, `","lastLocation":{"lat":`...)
	o = strconv.AppendFloat(o, at.Lat, 'g', -1, 64)
	o = append(o, `,"lng":`...)
	o = strconv.AppendFloat(o, at.Lng, 'g', -1, 64)
	o = append(o, `},"lastLocationTimestamp":"`...)
	o = time.Now().UTC().AppendFormat(o, contract.TimeFormat)
	o = append(o, `"}]`...)
	c.nsp.emit(c.rooms[0], b, frame(append([]byte("42/drivers,"), o...)))
	if admin := h.nsps["/admin"]; !admin.empty("admin:drivers") {
		admin.emit("admin:drivers", b, frame(append([]byte("42/admin,"), o...)))
	}
	if digits > 0 {
		var buf [64]byte
		a := append(buf[:0], "43/drivers,"...)
		a = append(a, id...)
		b.send(c, frame(append(a, `[{"ok":true}]`...)))
	}
}

// scan reads {"lat":x,"lng":y}, without encoding/json when it looks just so.
func scan(p []byte, at *contract.Position) bool {
	rest, ok := bytes.CutPrefix(p, []byte(`{"lat":`))
	lat, lng, ok2 := bytes.Cut(rest, []byte(`,"lng":`))
	lng, ok3 := bytes.CutSuffix(lng, []byte{'}'})
	if ok && ok2 && ok3 {
		x, err1 := strconv.ParseFloat(string(lat), 64)
		y, err2 := strconv.ParseFloat(string(lng), 64)
		if err1 == nil && err2 == nil {
			*at = contract.Position{Lat: x, Lng: y}
			return true
		}
	}
	return json.Unmarshal(p, at) == nil
}

// Emit serialises once and sends the same frame to the whole room.
func (h *Hub) Emit(nsp, room, event string, i int, b *Batch) {
	n := h.nsps[nsp]
	if n == nil {
		return
	}
	trip, _ := json.Marshal(contract.NewTrip(i)) // strings and numbers only
	p := append([]byte("42"+nsp+`,["`+event+`",`), trip...)
	n.emit(room, b, frame(append(p, ']')))
}
