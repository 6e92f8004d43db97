package rtnetlink

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// answer to request 7 on a machine of little endian: interface 2, its counters of
// which the first two are 5 received and 9 sent.
var statsAnswer = strings.Join([]string{
	"38000000 5c00 0000 07000000 2a000000", // length, RTM_NEWSTATS, flags, number, port
	"00 00 0000 02000000 01000000",         // family, interface, filter
	"1c00 0100 0500000000000000 0900000000000000 0000000000000000",
}, "")

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStatsRequest(t *testing.T) {
	want := unhex(t, "1c000000 5e00 0100 07000000 00000000 00000000 02000000 01000000")
	if got := AppendStatsRequest(nil, 7, 2); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestStatsAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		bytes  string
		frames uint64
		err    error
	}{
		"counters":             {statsAnswer, 9, nil},
		"another attribute":    {statsAnswer[:strings.Index(statsAnswer, "1c00 0100")] + "0600 0200 aabb 0000" + "1400 0100 0500000000000000 0300000000000000", 3, nil},
		"of another request":   {strings.Replace(statsAnswer, "07000000", "08000000", 1), 0, ErrOtherAnswer},
		"no such interface":    {"24000000 0200 0000 07000000 2a000000 edffffff" + "1c000000 5e00 0100 07000000 00000000", 0, unix.ENODEV},
		"nothing":              {"", 0, errNoStats},
		"a bare confirmation":  {"14000000 0200 0000 07000000 2a000000 00000000", 0, errNoStats},
		"another kind":         {strings.Replace(statsAnswer, "5c00", "1000", 1), 0, errNoStats},
		"an attribute cut off": {statsAnswer[:len(statsAnswer)-2], 0, errNoStats},
		"counters too short":   {statsAnswer[:strings.Index(statsAnswer, "1c00 0100")] + "0c00 0100 0500000000000000", 0, errNoStats},
	} {
		frames, err := StatsSent(unhex(t, c.bytes), 7)
		if frames != c.frames || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v; want %d, %v", name, frames, err, c.frames, c.err)
		}
	}
}

func FuzzStatsAnswer(f *testing.F) {
	f.Add(unhex(f, statsAnswer))
	f.Fuzz(func(t *testing.T, b []byte) {
		if frames, err := StatsSent(b, 7); err != nil && frames != 0 {
			t.Errorf("%d frames and %v", frames, err)
		}
	})
}
