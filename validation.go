// Validation of the bodies that clients send. The error texts are sent to the client.

package realtime

import (
	"fmt"
	"strings"
	"time"
)

const (
	maxID         = 256            // the maximum length of an id, in bytes
	maxUserType   = 64             // the maximum length of a user type, in bytes
	maxReason     = 200            // the maximum length of a reason, in characters
	maxClockError = 24 * time.Hour // the maximum difference of a client's time from now
)

// problems collects the mistakes in a payload.
type problems struct {
	texts  []string
	fields []string
}

func (p *problems) add(text string, fields ...string) {
	p.texts = append(p.texts, strings.Join(fields, ", ")+": "+text)
	p.fields = append(p.fields, fields...)
}

// checkID adds a mistake if an id is empty, too long, or contains NUL or invalid UTF-8.
func (p *problems) checkID(field, id string) {
	switch {
	case id == "":
		p.add("is required", field)
	case len(id) > maxID:
		p.add(fmt.Sprintf("must have at most %d bytes", maxID), field)
	case !validID(id):
		p.add("must be UTF-8 without NUL", field)
	}
}

// err returns an *Error with all mistakes, or nil if there are none.
func (p *problems) err() error {
	if len(p.fields) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalidPayload, Message: strings.Join(p.texts, "; "), Fields: p.fields}
}

// within reports whether f is in the range. It is false for NaN.
func within(f, low, high float64) bool { return f >= low && f <= high }

// is reports whether p is set to want.
func is(p *bool, want bool) bool { return p != nil && *p == want }
