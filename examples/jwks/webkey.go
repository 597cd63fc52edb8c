// The public keys of RFC 7517, as the JWTVerifier takes them.

package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
)

// webKey is a key of a set. The kinds that public does not know are ignored: an issuer may have
// keys that are not for us.
type webKey struct {
	Kind  string `json:"kty"`
	ID    string `json:"kid"`
	Use   string `json:"use"`
	Curve string `json:"crv"`
	N     string `json:"n"`
	E     string `json:"e"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

var errKey = errors.New("the key is malformed, too short or of an unknown kind")

const minRSA = 2048 // bits

// public returns an *rsa.PublicKey, an *ecdsa.PublicKey or an ed25519.PublicKey.
func (w webKey) public() (any, error) {
	switch w.Kind {
	case "RSA":
		n, e := number(w.N), number(w.E)
		if n.BitLen() < minRSA || e.BitLen() > 31 || e.Bit(0) == 0 {
			return nil, errKey
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[w.Curve]
		if curve == nil {
			return nil, errKey
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := number(w.X), number(w.Y)
		if x.BitLen() > 8*size || y.BitLen() > 8*size {
			return nil, errKey
		}
		point := append([]byte{4}, make([]byte, 2*size)...) // uncompressed
		x.FillBytes(point[1 : 1+size])
		y.FillBytes(point[1+size:])
		return ecdsa.ParseUncompressedPublicKey(curve, point)
	case "OKP":
		x, err := base64.RawURLEncoding.DecodeString(w.X)
		if err != nil || w.Curve != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errKey
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errKey
}

// number returns the number in a text, or 0 if it is malformed.
func number(text string) *big.Int {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) > 2048 {
		return new(big.Int)
	}
	return new(big.Int).SetBytes(b)
}
