package jwks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/jwks"
)

// answer is an issuer in memory.
type answer string

func (a answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

// The tokens of an identity provider, whose keys are in its JSON Web Key Set.
func ExampleKeys() {
	client := &http.Client{Transport: answer(`{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "2026-01", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)}

	keys := jwks.New("https://login.example.com/.well-known/jwks.json", client)
	tokens, err := realtime.NewJWTVerifier(keys.Keyfunc, realtime.JWTOptions{
		Methods:   []string{"EdDSA", "ES256", "RS256"}, // those of the issuer; never HS256 beside them
		Issuer:    "https://login.example.com",
		Audiences: map[string]string{realtime.NamespaceDrivers: "drivers-app", realtime.NamespaceAdmin: "dashboard"},
		Claims:    map[string]string{"token_use": "access"}, // an identity token is none
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	_, err = tokens.VerifyToken(context.Background(), "not.a.token", realtime.NamespaceDrivers)
	fmt.Println(err)
	// Output:
	// realtime: token invalid: malformed
}
