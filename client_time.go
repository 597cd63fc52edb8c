// Times that clients send: ISO 8601 as the libraries of phones write it, and milliseconds.

package realtime

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
)

// timeField decodes the time of a client: a text in ISO 8601, or a number of milliseconds since
// 1970.
type timeField struct{ to *Time }

// SetJSON implements jsonscan.Setter. It refuses the zero Time, which would mean "absent".
func (f timeField) SetJSON(value []byte) bool {
	var at time.Time
	var err error
	if text, ok := jsonscan.String(value); ok {
		at, err = parseTime(text)
	} else {
		at, err = parseMillis(value)
	}
	*f.to = Time{at}
	return err == nil && !at.IsZero()
}

// maxMillis is the end of the year 9999, after which ISO 8601 has no times.
const maxMillis = 253_402_300_800_000

// parseMillis reads a JSON number of milliseconds since 1970, which may have a fraction.
func parseMillis(number []byte) (time.Time, error) {
	millis, err := strconv.ParseFloat(string(number), 64)
	if err == nil && math.Abs(millis) >= maxMillis {
		err = strconv.ErrRange
	}
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(int64(math.Round(millis * 1000))), nil
}

// maxTimeText is longer than any time that the libraries of phones write.
const maxTimeText = 64

// parseTime reads a time in ISO 8601: with seconds or without, with or without a fraction of
// them, and with any zone or none, which means UTC. The date and the time may be separated by a
// space.
func parseTime(text []byte) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, string(text)); err == nil { // nearly all are
		return at, nil
	}
	const date = len("2006-01-02")
	if len(text) > maxTimeText || len(text) <= date {
		return time.Time{}, strconv.ErrSyntax
	}
	text = bytes.ToUpper(text)
	if text[date] == ' ' {
		text[date] = 'T'
	}
	clock, zone := text[date+1:], ""
	if i := bytes.IndexAny(clock, "Z+- "); i >= 0 {
		zone = string(bytes.TrimLeft(clock[i:], " "))
		clock = clock[:i]
	}
	layout := "2006-01-02T15:04"
	if len(clock) > len("15:04") {
		layout += ":05" // Parse also takes a fraction
	}
	switch len(zone) {
	case 0: // UTC
	case len("Z"), len("-07"):
		layout += "Z07"
	case len("-0700"):
		layout += "Z0700"
	default:
		layout += "Z07:00"
	}
	return time.Parse(layout, string(text[:date+1])+string(clock)+zone)
}
