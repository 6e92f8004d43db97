package status_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	. "github.com/stillpoint-ft/stillpoint/hostd/status"
)

// TestWhoWaitsForARole is woken by a change of role or generation, a failure and a note,
// and by nothing else.
func TestWhoWaitsForARole(t *testing.T) {
	m := NewMachine(pair.Unprotected)
	m.SetRole(pair.Protected, 3)
	for _, c := range []struct {
		name   string
		change func()
		wakes  bool
	}{
		{"the same role", func() { m.SetRole(pair.Protected, 3) }, false},
		{"another role", func() { m.SetRole(pair.Solo, 3) }, true},
		{"a later record", func() { m.SetRole(pair.Solo, 4) }, true},
		{"a failure", func() { m.SetFailure("it broke") }, true},
		{"a failure's end", func() { m.SetFailure("") }, false},
		{"something else", m.Note, true},
		{"another peer", func() { m.SetPeer("b") }, false},
		{"a wanted standby", func() { m.Want("b") }, false},
		{"a claim", func() { m.Claims("solo") }, false},
		{"a committed epoch", func() { m.Committed(Checkpoint{Epoch: 9}) }, false},
	} {
		_, changed := m.Role()
		c.change()
		woken := false
		select {
		case <-changed:
			woken = true
		default:
		}
		if woken != c.wakes {
			t.Errorf("%s: woken %v, want %v", c.name, woken, c.wakes)
		}
	}
}

func TestFailures(t *testing.T) {
	m := NewMachine(pair.Unprotected)
	m.SetFailure("first")
	before := m.Failures()
	if why := m.FailedSince(before); why != "" || m.LastFailure() != "first" {
		t.Errorf("%q, %q", why, m.LastFailure())
	}
	m.SetFailure("second")
	if why := m.FailedSince(before); why != "second" {
		t.Errorf("%q", why)
	}
	m.SetRetry("b", policy.Retry{}.Failed(time.Now()))
	if peer, r := m.Retry(); peer != "b" || r.Failures() != 1 {
		t.Errorf("%s, %d", peer, r.Failures())
	}
	orders := m.Orders()
	m.Ordered()
	if peer, r := m.Retry(); m.LastFailure() != "" || peer != "" || r.Failures() != 0 || m.Orders() != orders+1 {
		t.Error("what failed before an operator's command counts still")
	}
	m.Reported("link-lost")
	if m.Report() != "link-lost" {
		t.Error(m.Report())
	}
}

// TestClaimsStand until the arbiter has answered, or the role says that it has.
func TestClaimsStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMachine(pair.Protected)
		m.Claims("solo")
		time.Sleep(time.Second)
		m.Claims("solo") // again
		time.Sleep(time.Second)
		if !m.Undecided("no quorum") || m.Undecided("no quorum") {
			t.Error("what the arbiter says is news once")
		}
		if kind, since, said := m.Unanswered(); kind != "solo" || since != 2*time.Second || said != "no quorum" {
			t.Error(kind, since, said)
		}
		m.Answered()
		if kind, _, said := m.Unanswered(); kind != "" || said != "" {
			t.Error(kind, said)
		}
		m.Claims("stopped")
		m.SetRole(pair.Fenced, 4)
		if kind, _, _ := m.Unanswered(); kind != "" {
			t.Error(kind)
		}
	})
}

func TestASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMachine(pair.Standby)
		m.SetRole(pair.Protected, 7)
		m.SetPeer("b")
		m.SetQEMU("11.1.3")
		m.Want("c")
		if m.Want("c") || m.Wanted() != "c" || m.Peer() != "b" || m.Generation() != 7 {
			t.Error("what was noted is another")
		}
		m.CommittedTo(3)
		m.Stored(5)
		m.Replay(2)
		m.Tear()
		if n := m.Tear(); n != 2 {
			t.Errorf("%d torn", n)
		}
		m.Scrubbed(100, 1)
		for n := range uint64(4) {
			m.Committed(Checkpoint{Epoch: 10 + n, Pages: n, Bytes: 10, WireBytes: 3, Forced: n == 3,
				Pause: time.Duration(n) * time.Millisecond, Quiesce: time.Millisecond, Commit: 2 * time.Millisecond})
		}
		time.Sleep(time.Minute)
		one, two := time.Millisecond, 2*time.Millisecond
		want := Snapshot{Role: pair.Protected, Generation: 7, Peer: "b", WantedStandby: "c", QEMUVersion: "11.1.3",
			Epoch: 13, ReplicaEpoch: 5, Checkpoints: 4, Torn: 2, DirtyPages: 3, DirtyBytes: 40, BytesShipped: 12,
			PauseTime: Quantiles{one, two, 3 * one}, QuiesceTime: Quantiles{one, one, one}, CommitTime: Quantiles{two, two, two},
			Replayed: 2, Uptime: time.Minute, Forced: true, Scrubs: Scrubs{1, 100, 1, time.Now().Add(-time.Minute)}}
		if got := m.Snapshot(); got != want {
			t.Errorf("%+v\nwant %+v", got, want)
		}
		if m.Epoch() != 13 || m.ReplicaEpoch() != 5 {
			t.Error(m.Epoch(), m.ReplicaEpoch())
		}
	})
}

func TestUnsavedStateIsNewsOnce(t *testing.T) {
	m := NewMachine(pair.Unprotected)
	if !m.SetUnsaved("disk full") || m.SetUnsaved("disk full") || m.Unsaved() != "disk full" || !m.SetUnsaved("") {
		t.Error("it is told too often, or not")
	}
}

// TestQuantilesForget what is older than the window.
func TestQuantilesForget(t *testing.T) {
	m := NewMachine(pair.Protected)
	m.Committed(Checkpoint{Pause: time.Hour})
	for range 1024 {
		m.Committed(Checkpoint{Pause: time.Second})
	}
	if s := m.Snapshot(); s.PauseTime.Max != time.Second {
		t.Errorf("%+v", s.PauseTime)
	}
}

// TestAListenerThatDoesNotRead holds nobody up, and loses the oldest events.
func TestAListenerThatDoesNotRead(t *testing.T) {
	var events Events
	_, next, cancel := events.Subscribe()
	const more = 10000
	for n := range uint64(more) {
		events.Publish(Event{Kind: Running, Epoch: n})
	}
	cancel()
	events.Publish(Event{Kind: Running, Epoch: more})
	first, last := (<-next).Epoch, uint64(0)
	for len(next) > 0 {
		last = (<-next).Epoch
	}
	if first == 0 || last != more-1 {
		t.Errorf("from %d to %d", first, last)
	}
}

// TestWhatIsRemembered: the latest events, and no checkpoint.
func TestWhatIsRemembered(t *testing.T) {
	var events Events
	for n := range uint64(2000) {
		events.Publish(Event{Kind: Running, Epoch: n})
		events.Publish(Event{Kind: Committed, Epoch: n, Checkpoint: &Checkpoint{}})
	}
	past, _, cancel := events.Subscribe()
	defer cancel()
	if len(past) != 1024 || past[0].Epoch != 2000-1024 || past[1023].Epoch != 1999 || past[0].Time.IsZero() {
		t.Errorf("%d events from %d", len(past), past[0].Epoch)
	}
	for _, e := range past {
		if e.Checkpoint != nil {
			t.Fatal("a checkpoint is remembered")
		}
	}
}
