// Examples of tokens and login sessions: what a host publishes when a session is replaced or
// revoked, a host without sessions, and a secret that is rotated.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A login that writes a new session at each refresh says so: the sockets of the old session are
// moved to the new one, and stay connected.
func ExampleSessionRefreshed() {
	ctx := context.Background()
	b := start(realtime.Options{})
	defer b.stop()
	rt, ana := b.rt, b.connect() // in the session s1

	err := rt.Publish(ctx, realtime.SessionRefreshed{
		UserID: "ana", OldSessionID: "s1", NewSessionID: "s2", ExpiresAt: time.Now().Add(time.Hour),
	})
	fmt.Println(err)
	refreshed, err := realtimetest.Next(ctx, ana, realtime.EventSessionRefreshed)
	fmt.Println(refreshed.NewSessionID, ana.Connected(), err)
	// Output:
	// <nil>
	// s2 true <nil>
}

// A session that is revoked ends its sockets, in every namespace and on every node, after an event
// that says why.
func ExampleSessionRevoked() {
	ctx := context.Background()
	b := start(realtime.Options{})
	defer b.stop()
	rt, ana := b.rt, b.connect()

	err := rt.Publish(ctx, realtime.SessionRevoked{SessionID: "s1", UserID: "ana", Reason: "logged out elsewhere"})
	fmt.Println(err)
	revoked, err := realtimetest.Next(ctx, ana, realtime.EventSessionRevoked)
	fmt.Println(*revoked.Reason, err)
	// Output:
	// <nil>
	// logged out elsewhere <nil>
}

// A host without login sessions: the token itself is the session.
func ExampleOptions_tokenSessions() {
	secret := []byte("thirty-two bytes or more, and secret")
	tokens, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	users := &realtimetest.Users{}
	rt, err := realtime.New(realtime.Options{
		Tokens: tokens, Users: users,
		TokenSessions: true, // a token has sub and exp, and better a jti
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(rt.Shutdown(context.Background()))
	// Output:
	// <nil>
}

// A secret is replaced without logging anybody out: both are valid until the last token of the old
// one has expired.
func ExampleNewJWTVerifier_rotation() {
	secrets := map[string][]byte{
		"2026-01": []byte("the old secret, of thirty-two bytes or more"),
		"2026-02": []byte("the new secret, of thirty-two bytes or more"), // the login signs with this one
	}
	tokens, err := realtime.NewJWTVerifier(func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		if secret, ok := secrets[kid]; ok {
			return secret, nil
		}
		return nil, errors.New("unknown kid")
	}, realtime.JWTOptions{Methods: []string{"HS256"}})
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, kid := range []string{"2026-01", "2026-02", "2025-12"} {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ana", "sid": "s1", "exp": time.Now().Add(time.Hour).Unix()})
		token.Header["kid"] = kid
		signed, err := token.SignedString(append([]byte(nil), secrets[kid]...))
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = tokens.VerifyToken(context.Background(), signed, realtime.NamespaceDrivers)
		fmt.Println(kid, err)
	}
	// Output:
	// 2026-01 <nil>
	// 2026-02 <nil>
	// 2025-12 realtime: token invalid: unknown kid
}
