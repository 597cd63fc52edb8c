// Tokens of the users, signed before anything is measured.

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

const tokenLife = 6 * time.Hour

type signer struct {
	secret []byte
	head   string
	now    time.Time
}

func newSigner(secret string) *signer {
	return &signer{secret: []byte(secret), head: b64([]byte(`{"alg":"HS256","typ":"JWT"}`)), now: time.Now()}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (s *signer) sign(sub, sid, userType string) string {
	claims, _ := json.Marshal(map[string]any{ // strings and numbers only
		"sub": sub, "sid": sid, "userType": userType,
		"exp": s.now.Add(tokenLife).Unix(), "iat": s.now.Add(-time.Minute).Unix(),
	})
	in := s.head + "." + b64(claims)
	m := hmac.New(sha256.New, s.secret)
	m.Write([]byte(in))
	return in + "." + b64(m.Sum(nil))
}

// tokens holds a token for each user of a role.
type tokens struct {
	s     *signer
	cache map[*role][]string
}

func (t *tokens) prepare(r *role, n int) {
	list := make([]string, n)
	for i := range list {
		list[i] = t.s.sign(r.sub(i), r.sid(i), r.userType)
	}
	t.cache[r] = list
}

func (t *tokens) of(c *conn) string { return t.cache[c.role][c.user] }
