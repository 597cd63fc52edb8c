// check: does the server keep the contract?

package main

import (
	"fmt"
	"time"
)

func (b *bench) check() {
	drivers, admins, passengers := b.crowd(driverRole(), 2), b.crowd(adminRole(), 1), b.crowd(passengerRole(), 2)
	if !b.res.ok {
		return
	}
	var acks, toDriver, toAdmin, toPassenger, wrong int
	b.l.h = handler{
		event: func(c *conn, name string, data []byte) {
			fmt.Printf("   %s user %d got %s %s\n", c.role.nsp, c.user, name, data)
			switch {
			case name == evUpdate && c == drivers[0]:
				toDriver++
			case name == evUpdate && c == admins[0]:
				toAdmin++
			case name == evTrip && c == passengers[0]:
				toPassenger++
			default:
				wrong++
			}
		},
		ack: func(_ *conn, id int, data []byte) {
			fmt.Printf("   ack %d %s\n", id, data)
			acks++
		},
		closed: func(_ *conn, why string) {
			fmt.Println("   closed:", why)
			wrong++
		},
	}
	b.l.dial.ping(b.l, drivers[0])
	var posts *conn
	room := []string{"passenger:" + passengers[0].role.sub(0)}
	b.emit(&posts, "/passengers", 3, room, 3*time.Second, func() bool {
		return acks == 1 && toDriver == 1 && toAdmin == 1 && toPassenger == 3
	})
	b.spin(300 * time.Millisecond)
	if acks != 1 || toDriver != 1 || toAdmin != 1 || toPassenger != 3 || wrong != 0 {
		b.res.bad("acks %d (want 1), driver's updates %d (1), admin's updates %d (1), trip events %d (3), to the wrong socket or closed %d (0)",
			acks, toDriver, toAdmin, toPassenger, wrong)
	}
	b.checkRefusal()
	b.killAll(drivers)
	b.killAll(admins)
	b.killAll(passengers)
}

// checkRefusal connects with a token of another secret.
func (b *bench) checkRefusal() {
	right := b.toks.s
	b.toks.s = newSigner("not-" + b.cfg.secret)
	r := driverRole()
	b.toks.prepare(r, 1)
	b.toks.s = right
	b.cfg.handshake = 3 * time.Second
	if _, took, _ := b.connectAll(r, 1, 1); len(took) != 0 {
		b.res.bad("a token with a wrong signature was accepted")
	}
	for why := range b.l.failures {
		fmt.Println("   wrong token:", why)
	}
}
