package yamlfile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Size in bytes, written as "64MiB".
type Size uint64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	n, err := humanize.ParseBytes(string(b))
	comma := bytes.ContainsRune(b, ',') // "1,5GiB" is 15 GiB to the parser
	if err != nil || comma || len(b) > 1 && b[0] == '0' && b[1] >= '0' && b[1] <= '9' {
		return fmt.Errorf("%q is not a size; write it as 64MiB or 1GiB", b)
	}
	*s = Size(n)
	return nil
}

// MarshalText writes the size so that it reads back the same.
func (s Size) MarshalText() ([]byte, error) {
	for _, unit := range []struct {
		name  string
		bytes Size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s >= unit.bytes && s%unit.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", s/unit.bytes, unit.name), nil
		}
	}
	return fmt.Appendf(nil, "%dB", s), nil
}

// Duration, written as "50ms".
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write it as 50ms or 1s", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Percent is a fraction, written as "10%".
type Percent float64

// UnmarshalText reads a percentage.
func (p *Percent) UnmarshalText(b []byte) error {
	number, found := strings.CutSuffix(strings.TrimSpace(string(b)), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !found || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%q is not a percentage; write it as 10%%", b)
	}
	*p = Percent(v / 100)
	return nil
}

// MarshalText writes the percentage.
func (p Percent) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(p)*100, 'g', 10, 64) + "%"), nil
}
