// Examples of how a server is configured, and of what it says when that is wrong.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// New reports every mistake at once, each with its remedy.
func ExampleNew_mistakes() {
	_, err := realtime.New(realtime.Options{
		Users:    &realtimetest.Users{},
		Sessions: &realtimetest.Sessions{},
		Origins:  realtime.Origins{Allowed: []string{"https://app.example.com/map"}},
		Timeouts: realtime.Timeouts{PingInterval: 25},
	})
	fmt.Println(err)
	// Output:
	// realtime: Options.Tokens is required; NewJWTVerifier returns one
	// realtime: Options.Origins.Allowed: no page has the origin "https://app.example.com/map": it must be scheme://host or scheme://host:port, in ASCII, without a path
	// realtime: Options.Timeouts.PingInterval is 25ns; write 25 * time.Second if seconds are meant
}

func ExampleNewJWTVerifier() {
	secret := []byte("thirty-two bytes or more, and secret")
	tokens, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}, Issuer: "rides"})
	if err != nil {
		fmt.Println(err)
		return
	}
	token := realtimetest.MintJWT(secret, map[string]any{"sub": "ana", "sid": "s1", "iss": "rides", "exp": time.Now().Add(time.Hour)})
	claims, err := tokens.VerifyToken(context.Background(), token, realtime.NamespaceDrivers)
	fmt.Println(claims.Subject, claims.SessionID, err)

	_, err = tokens.VerifyToken(context.Background(), token+"x", realtime.NamespaceDrivers)
	fmt.Println(err, errors.Is(err, realtime.ErrTokenInvalid))
	// Output:
	// ana s1 <nil>
	// realtime: token invalid: bad signature true
}

// A secret that can be guessed is refused, unless the host says that it is meant.
func ExampleNewJWTVerifier_shortSecret() {
	_, err := realtime.NewJWTVerifier([]byte("secret"), realtime.JWTOptions{Methods: []string{"HS256"}})
	fmt.Println(err)
	_, err = realtime.NewJWTVerifier([]byte("secret"), realtime.JWTOptions{Methods: []string{"HS256"}, AllowShortSecret: true})
	fmt.Println(err)
	// Output:
	// realtime: JWT secret has 6 bytes and can be guessed offline from one token; HS256 needs 32 random bytes or more, or set JWTOptions.AllowShortSecret
	// <nil>
}
