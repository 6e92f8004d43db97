package warning

import (
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

func TestWarningsOfLostFrames(t *testing.T) {
	for _, c := range []struct {
		stats gate.Stats
		want  []string
	}{
		{gate.Stats{}, nil},
		{gate.Stats{Lost: 7}, []string{"7 frames of output were lost at an uplink"}},
		{gate.Stats{Uncarried: 9}, []string{"9 frames that stand for many segments were lost"}},
		{gate.Stats{Lost: 1, Uncarried: 2}, []string{"1 frames of output", "2 frames that stand for many"}},
	} {
		got := lossWarnings(c.stats)
		if len(got) != len(c.want) {
			t.Errorf("%+v: %q", c.stats, got)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%+v: %q, want %q", c.stats, got[i], want)
			}
		}
	}
}

// TestWhatIsToldOfLinks: each says what is cut off, and what to do about it.
func TestWhatIsToldOfLinks(t *testing.T) {
	began := time.Now().Add(-3 * time.Second)
	tap := func(state string) gate.Link {
		return gate.Link{Port: "in", Name: "sp-in", Tap: true, State: state, Since: began}
	}
	uplink := func(state string) gate.Link { return gate.Link{Port: "in", Name: "up", State: state, Since: began} }
	const cutOff, wouldBe = "the guest's card is cut off here; ", "after a takeover the guest's card would be cut off here; "
	for _, c := range []struct {
		link           gate.Link
		role           pair.Role
		kind           status.Kind
		event, warning string
	}{
		{tap("gone"), "protected", "tap-lost", "port in: tap sp-in is gone: " + cutOff + `move the machine with "hostd switchover m", or stop and start it`,
			"port in: tap sp-in has been gone for 3s: " + cutOff + `move the machine with "hostd switchover m", or stop and start it`},
		{tap("gone"), "solo", "tap-lost", "port in: tap sp-in is gone: " + cutOff + `protect the machine and move it with "hostd switchover m", or stop and start it`,
			"port in: tap sp-in has been gone for 3s: " + cutOff + `protect the machine and move it with "hostd switchover m", or stop and start it`},
		{tap("gone"), "standby", "tap-lost", "port in: tap sp-in is gone: " + wouldBe + `"hostd unprotect m" where the machine runs, and protect it again`,
			"port in: tap sp-in has been gone for 3s: " + wouldBe + `"hostd unprotect m" where the machine runs, and protect it again`},
		{tap("down"), "solo", "tap-lost", "port in: tap sp-in is down: " + cutOff + `"ip link set sp-in up"`,
			"port in: tap sp-in has been down for 3s: " + cutOff + `"ip link set sp-in up"`},
		{tap("down"), "standby", "tap-lost", "port in: tap sp-in is down: " + wouldBe + `"ip link set sp-in up"`,
			"port in: tap sp-in has been down for 3s: " + wouldBe + `"ip link set sp-in up"`},
		{tap("up"), "protected", "tap-back", "port in: tap sp-in is up and used again", ""},
		{uplink("no carrier"), "protected", "uplink-lost", "port in: uplink up is without a carrier: nothing leaves or arrives by it; it is used again as soon as it is back under its name",
			"port in: uplink up has been without a carrier for 3s: nothing leaves or arrives by it"},
		{uplink("up"), "protected", "uplink-back", "port in: uplink up is up and used again", ""},
	} {
		if e := LinkEvent("m", c.role, c.link); e.Kind != c.kind || e.Message != c.event {
			t.Errorf("%+v: event %s: %q, want %s: %q", c.link, e.Kind, e.Message, c.kind, c.event)
		}
		if w := linkWarning("m", c.role, c.link); c.warning != "" && w != c.warning {
			t.Errorf("%+v: warning %q, want %q", c.link, w, c.warning)
		}
	}
}

// TestWhereAMachineWouldBeWorse: a port that is dead here may die there, but for good only
// where it is here.
func TestWhereAMachineWouldBeWorse(t *testing.T) {
	links := func(uplink, tap string) []gate.Link {
		return []gate.Link{{Port: "in", Name: "up", State: uplink}, {Port: "in", Name: "tap", Tap: true, State: tap}}
	}
	for _, c := range []struct {
		here, there []gate.Link
		worse       bool
	}{
		{links("up", "up"), nil, false},
		{links("up", "up"), links("up", "up"), false},
		{links("up", "up"), links("down", "up"), true},
		{links("up", "up"), links("up", "down"), true},
		{links("gone", "up"), links("no carrier", "up"), false},
		{links("up", "down"), links("down", "up"), false},
		{links("no carrier", "up"), links("up", "gone"), true},
		{links("up", "down"), links("up", "gone"), true},
		{links("up", "gone"), links("up", "gone"), false},
		{links("up", "gone"), links("up", "up"), false},
	} {
		if _, worse := worseThere(c.here, c.there); worse != c.worse {
			t.Errorf("%v here, %v there: %v", c.here, c.there, worse)
		}
	}
}
