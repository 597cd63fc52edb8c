// Command quickstart is a server with one driver, a call of its own, and a domain event that is
// sent to the driver. Its client is client.mjs.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rodando/realtime"
)

// SaveNote is a call of this host: a driver sends a text and receives an ack with data.
var SaveNote = realtime.NewCall[string, string]("driver:note:save")

func main() {
	secret := []byte("thirty-two bytes or more, and secret")
	tokens, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := realtime.New(realtime.Options{
		Tokens:   tokens,
		Users:    users{"ana": {ID: "ana", Type: realtime.UserDriver, Active: true}},
		Sessions: sessions{"s1": {ID: "s1", UserID: "ana"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	SaveNote.Handle(rt.Drivers(), func(ctx context.Context, s *realtime.Socket, note string) (string, error) {
		offer := realtime.AssignmentOffered{TripID: "t1", AssignmentID: "a1", DriverID: s.Identity().UserID, TTLSec: 20}
		return "saved " + note, rt.Publish(ctx, offer) // the driver receives trip:assignment:offered
	})
	http.Handle(realtime.Path, rt)

	http.HandleFunc("POST /login", func(w http.ResponseWriter, _ *http.Request) { // yours asks for a password
		claims := jwt.MapClaims{"sub": "ana", "sid": "s1", "exp": time.Now().Add(time.Hour).Unix()}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		if err != nil {
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, token)
	})
	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:3000")
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	fmt.Println("listening on http://" + addr)
	log.Fatal(server.ListenAndServe())
}

type users map[string]realtime.User

func (u users) FindUser(_ context.Context, id string) (realtime.User, error) {
	if user, ok := u[id]; ok {
		return user, nil
	}
	return realtime.User{}, realtime.ErrNotFound
}

type sessions map[string]realtime.Session

func (s sessions) FindSession(_ context.Context, sid string) (realtime.Session, error) {
	if session, ok := s[sid]; ok {
		return session, nil
	}
	return realtime.Session{}, realtime.ErrNotFound
}
