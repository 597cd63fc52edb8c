// Examples of what a host does so that a driver gets an offer: it hears whether it has arrived, and gives it
// again to a driver who connects.

package realtime_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rodando/realtime"
)

// A subscriber to the bus hears whether a driver has received an offer, and Options.Unreachable is called if
// they have not. Here the driver connects after that.
func ExampleAssignmentUndelivered() {
	bus := realtime.NewMemoryBus() // a redisbus.Bus, if there are several nodes
	reports, pushes := make(chan string, 8), make(chan string, 8)
	report := func(words ...any) { reports <- fmt.Sprintln(words...) }
	push := func(words ...any) { pushes <- fmt.Sprintln(words...) }
	cancel, err := bus.Subscribe(func(_ context.Context, e realtime.Envelope) error {
		switch e.Name {
		case realtime.AssignmentDelivered{}.EventName(): // "trip.assignment.delivered"
			var d realtime.AssignmentDelivered
			if err := json.Unmarshal(e.Data, &d); err != nil {
				return err
			}
			report(d.AssignmentID, "is on the phone of", d.DriverID, "by", d.By)
		case realtime.AssignmentUndelivered{}.EventName(): // "trip.assignment.undelivered"
			var u realtime.AssignmentUndelivered
			if err := json.Unmarshal(e.Data, &u); err != nil {
				return err
			}
			report(u.AssignmentID, "has not reached", u.DriverID, "yet:", u.Reason)
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cancel()

	options := realtime.Options{Bus: bus, Timeouts: realtime.Timeouts{OfferReceipt: 10 * time.Millisecond}}
	options.Unreachable = func(_ context.Context, driverID string, e realtime.MissedEvent) {
		push("there is an offer for", driverID, e.Reason)
	}
	b := start(options)
	defer b.stop()
	offer := realtime.AssignmentOffered{TripID: "t1", AssignmentID: "a1", DriverID: "ana", TTLSec: 20, At: time.Now()}
	if err := b.rt.Publish(context.Background(), offer); err != nil {
		fmt.Println(err)
	}
	fmt.Print(<-pushes, <-reports)
	defer b.connect().Close() // the app's code, which needs none for this
	fmt.Print(<-reports)
	// Output:
	// there is an offer for ana no_device
	// a1 has not reached ana yet: no_device
	// a1 is on the phone of ana by heartbeat
}

// Rides is the host's database.
type Rides struct{ db *sql.DB }

// FindSnapshot implements realtime.SnapshotLookup: the driver's open offer.
func (r Rides) FindSnapshot(ctx context.Context, namespace string, id realtime.Identity) (found realtime.Snapshot, err error) {
	if namespace != realtime.NamespaceDrivers {
		return found, nil
	}
	rows, err := r.db.QueryContext(ctx, "SELECT id, trip, expires FROM offers WHERE driver = $1 AND state = 'open'", id.UserID)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	for rows.Next() {
		offer := realtime.AssignmentOffered{DriverID: id.UserID}
		if err := rows.Scan(&offer.AssignmentID, &offer.TripID, &offer.ExpiresAt); err != nil {
			return found, err
		}
		found.Offers = append(found.Offers, offer)
	}
	return found, rows.Err()
}

// A client that was away for a moment gets what it missed; any other one gets what is true now.
func ExampleSnapshotLookup() { //nolint:testableexamples // it needs a database
	var options realtime.Options // with the host's Tokens, Users and so on
	var db *sql.DB
	options.Recovery = realtime.Recovery{
		Enabled: true,
		Window:  2 * time.Minute, // the default
	}
	options.Snapshots = Rides{db}
	fmt.Println(realtime.New(options))
}
