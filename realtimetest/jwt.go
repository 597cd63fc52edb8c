// Access tokens as a host's login service mints them.

package realtimetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

// MintJWT returns a JWT signed with HS256. Claims are taken as they are: sub,
// sid and exp are what the realtime server asks for. A time.Time becomes the
// number of seconds that JWT has for it. It panics on a claim that does not
// marshal.
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
