package rtnetlink

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestFollower(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING
	type step struct {
		m     Message
		bind  bool
		state string
	}
	for name, steps := range map[string][]step{
		"down and up": {{Message{5, "eth", unix.IFF_LOWER_UP, false}, false, Down}, {Message{5, "eth", up, false}, false, Up}},
		"others":      {{Message{6, "other", 0, false}, false, Up}, {Message{6, "other", 0, true}, false, Up}},
		"made anew": {{Message{5, "eth", 0, true}, false, Gone}, {Message{5, "other", up, false}, false, Gone},
			{Message{9, "eth", unix.IFF_UP, false}, true, NoCarrier}, {Message{9, "eth", up, false}, false, Up}},
		"its name taken while it is there": {{Message{5, "old", up, false}, false, Up}, {Message{6, "eth", 0, false}, false, Up}},
	} {
		u := &Follower{Name: "eth", Index: 5, State: Up}
		for i, s := range steps {
			if bind := u.Hear(s.m); bind != s.bind || u.State != s.state {
				t.Errorf("%s, step %d: %q, bind %v; want %q, %v", name, i, u.State, bind, s.state, s.bind)
			}
		}
	}
}

// TestFollowerAfterLoss: messages were lost, and all interfaces are listed anew.
func TestFollowerAfterLoss(t *testing.T) {
	u := &Follower{Name: "eth", Index: 5, State: Up}
	u.Lost()
	if u.Hear(Message{5, "eth", unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING, false}) != true || u.Listed() || u.State != Up {
		t.Errorf("one with the same index may be another: %+v", u)
	}
	u.Lost()
	u.Hear(Message{6, "eth", unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING, false})
	if !u.Listed() || u.State != Gone {
		t.Errorf("one that is not listed is gone: %+v", u)
	}
	if !u.Hear(Message{6, "eth", unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING, false}) || u.State != Up || u.Listed() {
		t.Errorf("the second listing finds it by name: %+v", u)
	}
}
