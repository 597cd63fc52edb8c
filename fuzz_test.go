// Fuzzing of what clients say about themselves: tokens, bodies and origins.

package realtime

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math"
	"math/big"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/jsonscan"
	origins "github.com/rodando/realtime/internal/origin"
	"github.com/rodando/realtime/internal/socketio"
)

// The keys are the same in every process, as the fuzzer hands its seeds to
// others.
var (
	fuzzSecret  = []byte("a secret of thirty-two bytes, ok")
	fuzzEdKey   = ed25519.NewKeyFromSeed([]byte("another secret of thirty-two byt"))
	fuzzRSAKey  = &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2048), big.NewInt(1942289)), E: 65537}
	fuzzClaims  = `{"sub":"u1","sid":"s1","exp":253402300799}`
	fuzzVerify  = map[string]*JWTVerifier{}
	fuzzToken   = map[string]string{} // the only one that a verifier accepts
	fuzzExpired = hmacToken(fuzzSecret, `{"alg":"HS256","typ":"JWT"}`, `{"sub":"u1","sid":"s1","exp":1}`)
)

func hmacToken(secret []byte, header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func newFuzzVerifier(f *testing.F, key any, o JWTOptions) *JWTVerifier {
	v, err := NewJWTVerifier(key, o)
	require.NoError(f, err)
	return v
}

// fuzzTokens sets the verifiers up and returns tokens, the valid ones among them.
func fuzzTokens(f *testing.F) []string {
	edPublic := fuzzEdKey.Public().(ed25519.PublicKey)
	fuzzVerify["HS256"] = newFuzzVerifier(f, fuzzSecret, JWTOptions{Methods: []string{"HS256"}})
	fuzzVerify["EdDSA"] = newFuzzVerifier(f, edPublic, JWTOptions{Methods: []string{"EdDSA"}})
	fuzzVerify["RS256"] = newFuzzVerifier(f, fuzzRSAKey, JWTOptions{Methods: []string{"RS256", "PS256"}})
	fuzzVerify["any"] = newFuzzVerifier(f, jwt.Keyfunc(func(*jwt.Token) (any, error) { // whatever the token's alg
		return jwt.VerificationKeySet{Keys: []jwt.VerificationKey{fuzzRSAKey, edPublic, fuzzSecret}}, nil
	}), JWTOptions{Methods: []string{"HS256", "RS256"}})
	fuzzToken["HS256"] = hmacToken(fuzzSecret, `{"alg":"HS256","typ":"JWT"}`, fuzzClaims)
	fuzzToken["any"] = fuzzToken["HS256"]
	var err error
	fuzzToken["EdDSA"], err = jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "u1", "sid": "s1", "exp": int64(253402300799)}).SignedString(fuzzEdKey)
	require.NoError(f, err)

	der, err := x509.MarshalPKIXPublicKey(fuzzRSAKey)
	require.NoError(f, err)
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	unsigned := hmacToken(nil, `{"alg":"none"}`, fuzzClaims)
	unsigned = unsigned[:strings.LastIndexByte(unsigned, '.')+1]
	good := strings.Split(fuzzToken["HS256"], ".")
	tokens := []string{
		fuzzToken["HS256"], fuzzToken["EdDSA"], fuzzExpired, "", ".", "..", "...", "a.b.c", "null",
		unsigned, unsigned + good[2], strings.Replace(unsigned, "eyJhbGciOiJub25lIn0", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"None"}`)), 1),
		good[0] + "." + good[1] + ".", good[0] + "." + good[1], good[0] + ".." + good[2], "." + good[1] + "." + good[2],
		fuzzToken["HS256"] + "=", fuzzToken["HS256"] + ".", fuzzToken["HS256"] + " ", strings.ToUpper(fuzzToken["HS256"]),
		// A public key, which everybody has, as the secret.
		hmacToken(rsaPEM, `{"alg":"HS256"}`, fuzzClaims), hmacToken(bytes.TrimSpace(rsaPEM), `{"alg":"HS256"}`, fuzzClaims),
		hmacToken(der, `{"alg":"HS256"}`, fuzzClaims), hmacToken(edPublic, `{"alg":"HS256"}`, fuzzClaims),
		hmacToken(nil, `{"alg":"HS256"}`, fuzzClaims), hmacToken(fuzzSecret, `{"alg":"RS256"}`, fuzzClaims),
		hmacToken(fuzzSecret, `{"alg":"HS512"}`, fuzzClaims), hmacToken(fuzzSecret, `{"alg":["HS256"]}`, fuzzClaims),
		hmacToken(fuzzSecret, `{"alg":"HS256","crit":["exp"]}`, fuzzClaims), hmacToken(fuzzSecret, `{}`, fuzzClaims),
		hmacToken(fuzzSecret, `null`, fuzzClaims), hmacToken(fuzzSecret, `{"alg":"HS256"}`, `null`), hmacToken(fuzzSecret, `{"alg":"HS256"}`, `[]`),
		hmacToken([]byte("x"), `{"alg":"HS256","kid":"../../dev/null","jku":"http://example.com","jwk":{"kty":"oct","k":"eA"}}`, fuzzClaims),
		hmacToken(fuzzSecret, `{"alg":"HS256"}`, `{"sub":"u1","sid":"s1"}`), hmacToken(fuzzSecret, `{"alg":"HS256"}`, `{"exp":1e400}`),
		// CVE-2025-30204: every dot took memory.
		strings.Repeat(".", 8<<10), strings.Repeat(".", 8<<10+1), strings.Repeat(".", 1<<20),
		strings.Repeat("x", 8<<10), strings.Repeat("x", 8<<10+1), fuzzToken["HS256"] + strings.Repeat("A", 8<<10),
		good[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", 5_000))) + "." + good[2],
		good[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"a":[`+strings.Repeat("[],", 1_900)+`0]}`)) + "." + good[2],
	}
	return tokens
}

// FuzzToken brings arbitrary payloads of CONNECT and Authorization headers. What
// is accepted is one of the valid tokens, where a token may stand; everything
// else is refused in words that do not repeat it, at a bounded cost.
func FuzzToken(f *testing.F) {
	for _, token := range fuzzTokens(f) {
		quoted, err := json.Marshal(token)
		require.NoError(f, err)
		f.Add([]byte(`{"token":`+string(quoted)+`}`), "")
		f.Add([]byte(`{"token":"Bearer `+string(quoted[1:])+`}`), "bEARER nonsense")
		f.Add([]byte(nil), "Bearer "+token)
		f.Add([]byte(`{"token":""}`), "bearer   "+token)
		f.Add([]byte(`{}`), token)
	}
	for _, payload := range []string{
		`{`, `[]`, `null`, `"x"`, `1`, `{"token":1}`, `{"token":null}`, `{"token":{"token":"x"}}`, `{"token":["x"]}`, `{"Token":"x"}`, `{"token":"a","token":null}`,
		`{"__proto__":{"token":"x"}}`, `{"token":"Bearer Bearer x"}`, `{"token":"bearer "}`, `{"token":"\u0000"}`, strings.Repeat(`{"a":`, 1_000),
	} {
		f.Add([]byte(payload), "Bearer "+fuzzToken["HS256"])
		f.Add([]byte(payload), "Basic "+base64.StdEncoding.EncodeToString([]byte("user:password")))
	}
	f.Fuzz(func(t *testing.T, payload []byte, authorization string) {
		header := bearer(authorization)
		require.LessOrEqual(t, len(header), maxTokenLength+1, "kept of a header")
		inAuth, rest, err := splitAuth(payload)
		require.NotContains(t, rest, "token")
		var token string
		if err == nil {
			token, err = connectToken(inAuth, header)
		}
		if err != nil {
			shown, ok := asError(err)
			require.True(t, ok)
			require.Equal(t, connectError(CodeInvalidToken), shown)
			return
		}

		// Where the token may stand, said in another way.
		var auth map[string]any
		if len(payload) > 0 {
			require.NoError(t, json.Unmarshal(payload, &auth))
		}
		given, isString := auth["token"].(string)
		require.True(t, isString || auth["token"] == nil)
		want := func(said string) string {
			if len(said) >= 7 && strings.EqualFold(said[:7], "bearer ") {
				return strings.TrimSpace(said[7:])
			}
			return said
		}
		switch {
		case want(given) != "":
			require.Equal(t, want(given), token)
		case want(authorization) == authorization:
			require.Empty(t, token, "a header without the scheme")
		default:
			require.True(t, strings.HasPrefix(want(authorization), token))
		}

		for name, v := range fuzzVerify {
			var before, after runtime.MemStats
			if len(token) > 1_000 {
				runtime.ReadMemStats(&before)
			}
			claims, err := v.VerifyToken(context.Background(), token, NamespaceDrivers)
			if len(token) > 1_000 {
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "allocated for a token of %d bytes", len(token))
			}
			if valid := fuzzToken[name]; valid != "" && token == valid {
				require.NoError(t, err)
				require.Equal(t, Claims{Subject: "u1", SessionID: "s1", ExpiresAt: time.Unix(253402300799, 0)}, claims)
				continue
			}
			require.Error(t, err, "%s accepts %q", name, token)
			require.Zero(t, claims)
			if errors.Is(err, ErrTokenExpired) {
				require.Equal(t, fuzzExpired, token, "and so somebody can sign")
			} else {
				require.ErrorIs(t, err, ErrTokenInvalid)
			}
			if len(token) > maxTokenLength {
				require.Equal(t, errTokenTooLong, err, "read, though too long")
			}
			if len(token) > 40 {
				require.NotContains(t, err.Error(), token[:20])
			}
		}
	})
}

// bodies are the inbound bodies: how each is decoded, and the fields it has.
var bodies = []struct {
	decode func(body []byte) (any, error)
	fields []string
}{
	{decodeAs[LocationPing], []string{"lat", "lng", "lastLocationTimestamp", "heading", "speed", "accuracyMeters"}},
	{decodeAs[StatusUpdate], []string{"isOnline", "isAvailableForTrips", "availabilityReason"}},
	{decodeAs[SetTrip], []string{"currentTripId"}},
	{decodeAs[OfferAccept], []string{"assignmentId"}},
	{decodeAs[OfferReject], []string{"assignmentId", "reason"}},
	{decodeAs[TripRef], []string{"tripId"}},
	{decodeAs[TokenRefresh], []string{"token"}},
}

func decodeAs[In any](body []byte) (any, error) {
	var in In
	err := decodeBody(&socketio.Event{Args: [][]byte{body}}, &in)
	return in, err
}

// FuzzInbound decodes arbitrary bodies of the inbound events. Each is a value
// within the contract's ranges that reads the same once it was encoded again, or
// invalid_payload with the fields at fault; which, encoding/json says as well.
func FuzzInbound(f *testing.F) {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for _, body := range []string{
		`{}`, `null`, `[]`, `1`, `"x"`, ` { } `, `{"lat":1,"lng":2}`, `{"lat":-90,"lng":180,"heading":360,"speed":0,"accuracyMeters":0}`,
		`{"lat":23.1,"lng":-82.3,"lastLocationTimestamp":"` + now + `","heading":0,"speed":1.5,"accuracyMeters":5}`,
		`{"lat":90.0000001,"lng":1}`, `{"lat":1e999,"lng":1}`, `{"lat":NaN,"lng":1}`, `{"lat":"1","lng":1}`, `{"lat":null,"lng":1}`, `{"LAT":1,"LNG":2}`,
		`{"lat":1,"lng":1,"lastLocationTimestamp":"2000-01-01T00:00:00Z"}`, `{"lat":1,"lng":1,"lastLocationTimestamp":1}`, `{"lat":1,"lng":1,"lastLocationTimestamp":"yesterday"}`,
		`{"lat":1,"lng":1,"speed":-1,"heading":-1,"accuracyMeters":-1}`, `{"lat":1,"lng":1,"speed":-2,"heading":360.5,"accuracyMeters":-0.1}`, `{"lat":1,"lng":1,"heading":-0.0}`,
		`{"lat":1,"lng":1,"lastLocationTimestamp":"` + now[:19] + `"}`, `{"lat":1,"lng":1,"lastLocationTimestamp":"` + now[:19] + `+0000"}`, `{"lat":1,"lng":1,"lastLocationTimestamp":` + strconv.FormatInt(time.Now().UnixMilli(), 10) + `}`,
		`{"lat":1,"lat":91,"lng":1}`, `{"lat":1,"lng":1,"heading":null}`, `{"lat":-0,"lng":1e-400}`,
		`{"lat":[1],"lng":{"lat":1}}`, `{"\u006cat":1,"lng":2}`, `{"__proto__":{"lat":1},"constructor":1,"lat":1,"lng":1}`,
		`{"isOnline":true,"isAvailableForTrips":true,"availabilityReason":null}`, `{"isOnline":false,"isAvailableForTrips":true}`, `{"isOnline":"true"}`, `{"isOnline":1}`,
		`{"availabilityReason":"OFFLINE"}`, `{"availabilityReason":"offline"}`, `{"availabilityReason":""}`, `{"availabilityReason":"OFFLINE","isOnline":true}`, `{"availabilityReason":1}`,
		`{"currentTripId":null}`, `{"currentTripId":""}`, `{"currentTripId":"t"}`, `{"currentTripId":1}`, `{"assignmentId":"a","reason":"` + strings.Repeat("ñ", 201) + `"}`,
		`{"assignmentId":"a","reason":"🚕"}`, `{"assignmentId":"` + strings.Repeat("a", 257) + `"}`, `{"tripId":"\ud800"}`, `{"tripId":"a\"b\\"}`, `{"token":"t"}`, `{"token":{"toString":"x"}}`,
	} {
		for kind := range bodies {
			f.Add(uint8(kind), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		b := bodies[int(kind)%len(bodies)]
		_, _ = b.decode(slices.Clone(body))
		if jsonscan.Valid(body, 32) != nil {
			return // the packet's parser would not let it through; there was no panic
		}
		body = bytes.Trim(body, " \t\r\n") // as the parser hands it on
		value, err := b.decode(slices.Clone(body))
		if err != nil {
			e, ok := asError(err)
			require.True(t, ok)
			require.Equal(t, CodeInvalidPayload, e.Code)
			require.NotEmpty(t, e.Message)
			require.Equal(t, body[0] == '{' || string(body) == "null", len(e.Fields) > 0, "%v", e.Fields)
			require.Subset(t, b.fields, e.Fields)
			require.Less(t, len(e.Message), 300)
		} else {
			checkRanges(t, value)
			again, err := json.Marshal(value)
			require.NoError(t, err)
			second, err := b.decode(again)
			require.NoError(t, err, "%s", again)
			if ping, ok := value.(LocationPing); ok {
				ping.LastLocationTimestamp.Time = ping.LastLocationTimestamp.UTC().Truncate(time.Millisecond)
				value = ping
			}
			require.Equal(t, value, second, "%s", again)
		}
		if known, ok := members(body); ok {
			require.Equal(t, isGood(value, known), err == nil, "%s: %v", body, err)
		}
	})
}

func checkRanges(t *testing.T, value any) {
	t.Helper()
	id := func(s string) { require.True(t, len(s) > 0 && len(s) <= 256, "%q", s) }
	switch v := value.(type) {
	case LocationPing:
		require.True(t, v.Lat >= -90 && v.Lat <= 90 && v.Lng >= -180 && v.Lng <= 180, "%v", v.Position)
		require.True(t, v.Heading == nil || *v.Heading >= 0 && *v.Heading <= 360)
		require.True(t, v.Speed == nil || *v.Speed >= 0)
		require.True(t, v.AccuracyMeters == nil || *v.AccuracyMeters >= 0)
		require.True(t, v.LastLocationTimestamp.IsZero() || time.Since(v.LastLocationTimestamp.Time).Abs() < 25*time.Hour)
	case StatusUpdate:
		require.True(t, v.IsOnline != nil || v.IsAvailableForTrips != nil || v.AvailabilityReason != nil)
		if v.AvailabilityReason != nil {
			require.Contains(t, []AvailabilityReason{"", "OFFLINE", "ON_TRIP", "UNAVAILABLE"}, *v.AvailabilityReason)
		}
	case SetTrip:
		if v.CurrentTripID != nil {
			id(*v.CurrentTripID)
		}
	case OfferAccept:
		id(v.AssignmentID)
	case OfferReject:
		id(v.AssignmentID)
		require.LessOrEqual(t, len([]rune(v.Reason)), 200)
	case TripRef:
		id(v.TripID)
	case TokenRefresh:
		require.NotEmpty(t, v.Token)
	}
}

// members are those of an object as encoding/json reads them; ok is false for
// what is no object and where a name is repeated.
func members(body []byte) (known map[string]json.RawMessage, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	known = map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false
		}
		if _, repeated := known[name.(string)]; repeated {
			return nil, false
		}
		known[name.(string)] = value
	}
	return known, true
}

// clientTime reads the time of a client by trying every layout.
func clientTime(raw json.RawMessage) (time.Time, bool) {
	var millis float64
	if json.Unmarshal(raw, &millis) == nil {
		return time.UnixMicro(int64(math.Round(millis * 1000))), math.Abs(millis) < 253402300800000
	}
	var text string
	if json.Unmarshal(raw, &text) != nil || len(text) > 64 {
		return time.Time{}, false
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, !at.IsZero()
	}
	text = string(bytes.ToUpper([]byte(text)))
	for _, zone := range []string{"", "Z07", "Z0700", "Z07:00"} {
		for _, clock := range []string{"T15:04", "T15:04:05", " 15:04", " 15:04:05"} {
			for _, space := range []string{"", " "} {
				if at, err := time.Parse("2006-01-02"+clock+space+zone, text); err == nil {
					return at, !at.IsZero()
				}
			}
		}
	}
	return time.Time{}, false
}

// isGood says of the members of a body what the contract says.
func isGood(value any, known map[string]json.RawMessage) bool {
	given := func(name string) bool { return known[name] != nil && string(known[name]) != "null" }
	number := func(name string, low, high float64, required bool) bool {
		if !given(name) {
			return !required
		}
		var n float64
		return json.Unmarshal(known[name], &n) == nil && n >= low && n <= high
	}
	text := func(name string, least, most int, required bool) bool {
		if !given(name) {
			return !required
		}
		var s string
		return json.Unmarshal(known[name], &s) == nil && len(s) >= least && len(s) <= most
	}
	flag := func(name string) *bool {
		switch {
		case !given(name):
			return nil
		case string(known[name]) == "true":
			return new(true)
		}
		return new(false)
	}
	switch value.(type) {
	case LocationPing:
		if given("lastLocationTimestamp") {
			at, ok := clientTime(known["lastLocationTimestamp"])
			if !ok || time.Since(at).Abs() > 24*time.Hour {
				return false
			}
		}
		const most = math.MaxFloat64
		orUnknown := func(name string, high float64) bool {
			return number(name, 0, high, false) || number(name, -1, -1, false)
		}
		return number("lat", -90, 90, true) && number("lng", -180, 180, true) && orUnknown("heading", math.Nextafter(361, 0)) &&
			orUnknown("speed", most) && orUnknown("accuracyMeters", most)
	case StatusUpdate:
		for _, name := range []string{"isOnline", "isAvailableForTrips"} {
			if given(name) && string(known[name]) != "true" && string(known[name]) != "false" {
				return false
			}
		}
		online, available := flag("isOnline"), flag("isAvailableForTrips")
		reason := ""
		if given("availabilityReason") {
			if json.Unmarshal(known["availabilityReason"], &reason) != nil || !slices.Contains([]string{"OFFLINE", "ON_TRIP", "UNAVAILABLE"}, reason) {
				return false
			}
		}
		offline, free := online != nil && !*online, available != nil && *available
		return (online != nil || available != nil || known["availabilityReason"] != nil) && (!offline || !free) && (!free || reason == "") &&
			(!offline || reason == "" || reason == "OFFLINE") && (online == nil || !*online || reason != "OFFLINE")
	case SetTrip:
		return text("currentTripId", 1, 256, false)
	case OfferAccept:
		return text("assignmentId", 1, 256, true)
	case OfferReject:
		var reason string
		if given("reason") && json.Unmarshal(known["reason"], &reason) != nil {
			return false
		}
		return text("assignmentId", 1, 256, true) && len([]rune(reason)) <= 200
	case TripRef:
		return text("tripId", 1, 256, true)
	case TokenRefresh:
		return text("token", 1, 1<<30, true)
	}
	panic(reflect.TypeOf(value))
}

// FuzzOrigin brings arbitrary Origin headers and hosts. What is allowed is an
// allowed page, or one of the host itself, and never anything that only looks
// like it.
func FuzzOrigin(f *testing.F) {
	const allowed = "https://app.example.com"
	for _, origin := range []string{
		allowed, allowed + ":443", allowed + ":8443", "HTTPS://APP.EXAMPLE.COM", "http://app.example.com", "https://example.com", "https://x.app.example.com",
		"https://evil-app.example.com", "https://app.example.com.evil.example", "https://app.example.com@evil.example", "https://evil.example#app.example.com",
		"https://evil.example/app.example.com", "https://evil.example?app.example.com", "https://app.example.com.", "https://app.example.com/", "null", "", "*",
		"https://app.example.com\x00.evil.example", "https://app.example.com, https://evil.example", "https://\u0430pp.example.com", "https://xn--pp-7kc.example.com",
		"https://app.example.com:", "https://app.example.com:0443", "//app.example.com", "file://", "capacitor://localhost", "https://[::1]", "javascript:alert(1)", "https://app.example.com\\@evil.example",
		"https://localhost:3000", "http://localhost:3000", "https://%61pp.example.com",
	} {
		f.Add(origin, "localhost:3000")
		f.Add(origin, "app.example.com")
		f.Add(origin, origin)
	}
	p := origins.New([]string{allowed}, true, false)
	f.Fuzz(func(t *testing.T, origin, host string) {
		server := origins.Host{Name: host}
		require.False(t, p.Allows([]string{origin, origin}, server), "twice")
		if !p.Allows([]string{origin}, server) {
			require.NotEqual(t, allowed, origin)
			return
		}
		// By letters alone: a scheme, then one of two hosts, then perhaps a port, and a path
		// that does not matter.
		scheme, rest, ok := strings.Cut(origin, "://")
		require.True(t, ok)
		require.False(t, strings.ContainsAny(rest, "\\#, \x00"), "%q", origin)
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			rest = rest[:i]
		}
		require.NotContains(t, rest, "@")
		scheme = strings.ToLower(scheme)
		if s, ok := map[string]string{"ws": "http", "wss": "https"}[scheme]; ok {
			scheme = s
		}
		u, err := url.Parse(scheme + "://" + strings.ToLower(rest))
		require.NoError(t, err)
		page := scheme == "https" && u.Hostname() == "app.example.com" && slices.Contains([]string{"", "443"}, u.Port())
		own, err := url.Parse(scheme + "://" + strings.ToLower(host))
		port := func(u *url.URL) string {
			if d := map[string]string{"http": "80", "https": "443"}[u.Scheme]; u.Port() == "" {
				return d
			}
			return u.Port()
		}
		same := err == nil && own.Hostname() == u.Hostname() && port(own) == port(u)
		require.True(t, page || same, "%q at %q", origin, host)
	})
}
