// Access tokens as a host's login service mints them.

package realtimetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

// MintJWT returns a JWT signed with HS256. Claims are used unchanged, except that a
// time.Time becomes a number of seconds. The realtime server requires sub, sid and
// exp. MintJWT panics if a claim cannot be marshaled. It may be called concurrently.
func MintJWT(secret []byte, claims map[string]any) string {
	body := make(map[string]any, len(claims))
	for name, v := range claims {
		if t, ok := v.(time.Time); ok {
			v = t.Unix()
		}
		body[name] = v
	}
	payload, err := json.Marshal(body)
	if err != nil {
		panic("realtimetest: MintJWT: " + err.Error())
	}
	enc := base64.RawURLEncoding
	token := enc.AppendEncode(nil, []byte(`{"alg":"HS256","typ":"JWT"}`))
	token = enc.AppendEncode(append(token, '.'), payload)
	mac := hmac.New(sha256.New, secret)
	mac.Write(token)
	return string(enc.AppendEncode(append(token, '.'), mac.Sum(nil)))
}
