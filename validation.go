// Validation of the bodies that clients send. The error texts are sent to the client.

package realtime

import (
	"fmt"
	"strings"
	"time"
)

const (
	maxID         = 256 // bytes
	maxReason     = 200 // characters
	maxClockError = 24 * time.Hour
)

// problems collects what is wrong with a payload.
type problems struct {
	texts  []string
	fields []string
}

func (p *problems) add(text string, fields ...string) {
	p.texts = append(p.texts, strings.Join(fields, ", ")+": "+text)
	p.fields = append(p.fields, fields...)
}

func (p *problems) checkID(field, id string) {
	switch {
	case id == "":
		p.add("is required", field)
	case len(id) > maxID:
		p.add(fmt.Sprintf("must have at most %d bytes", maxID), field)
	case !validID(id):
		p.add("must have no NUL", field)
	}
}

func (p *problems) err() error {
	if len(p.fields) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalidPayload, Message: strings.Join(p.texts, "; "), Fields: p.fields}
}

// within is false for NaN.
func within(f, low, high float64) bool { return f >= low && f <= high }

func is(p *bool, want bool) bool { return p != nil && *p == want }
