package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// testContext ends before the test binary's own limit, so that cleaning up
// still happens.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newLab(t testing.TB, o Options) *Lab {
	t.Helper()
	if err := Available(); err != nil {
		t.Skipf("no lab here: %v", err)
	}
	o.Dir = t.TempDir()
	o.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Error})
	l, err := New(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// traces lists everything outside a directory that bears a lab's name.
func traces(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/run/netns/*", "/dev/shm/*", recordsDir + "/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if strings.Contains(p, name) {
				found = append(found, p)
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), name) {
		found = append(found, "a mount")
	}
	pids, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range pids {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil && carries(pid, marker+"="+name) {
			found = append(found, "process "+e.Name())
		}
	}
	return found
}

func TestLabLeavesNothing(t *testing.T) {
	before := threadsOutside(t)
	l := newLab(t, Options{})
	if got := traces(t, l.Name); len(got) < 7 {
		t.Errorf("a lab shows as %q: expected 5 namespaces, RAM and record", got)
	}
	files, err := os.ReadDir(filepath.Dir(l.Dir))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of the lab: %v, %v", files, err)
	}
	for range 2 { // the second time has nothing to do
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := traces(t, l.Name); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
	if files, _ = os.ReadDir(filepath.Dir(l.Dir)); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
	if after := threadsOutside(t); after > before {
		t.Errorf("%d threads of this process are in foreign namespaces", after)
	}
}

// threadsOutside counts threads of this process that are not in the namespace
// of its first thread.
func threadsOutside(t *testing.T) (n int) {
	t.Helper()
	home, err := inodeOf("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if id, err := inodeOf(task); err == nil && id != home {
			n++
		}
	}
	return n
}

func TestKeepFiles(t *testing.T) {
	l := newLab(t, Options{KeepFiles: true, Hosts: 1})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.ArbiterDir); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	if err := Available(); err != nil {
		t.Skipf("no lab here: %v", err)
	}
	for _, o := range []Options{{ID: "Upper"}, {ID: "a/b"}, {ID: "0123456789abc"}, {Hosts: 10}, {Hosts: -1},
		{Arbiter: "oracle"}, {ArbiterMembers: "some"}, {StateSize: -1}} {
		if l, err := New(testContext(t), o); err == nil {
			t.Errorf("%+v was accepted", o)
			l.Close()
		}
	}
}

func TestNewUnwindsWhenItFails(t *testing.T) {
	if err := Available(); err != nil {
		t.Skipf("no lab here: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := New(ctx, Options{ID: "cut", Dir: t.TempDir()})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := traces(t, fmt.Sprintf("sp-%d-cut", os.Getpid())); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestLink(t *testing.T) {
	l := newLab(t, Options{})
	a, b := l.Hosts[0], l.Hosts[1]
	at := b.Address + ":7"
	echo(t, b.Space, at)
	reach := func(want bool, when string) {
		t.Helper()
		patience := 200 * time.Millisecond
		if want {
			patience = time.Minute
		}
		err := call(within(t, patience), a.Space, at)
		if (err == nil) != want {
			t.Errorf("%s: call says %v", when, err)
		}
	}
	do := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	reach(true, "untouched")
	do(l.Link.Cut)
	reach(false, "cut")
	do(l.Link.Restore)
	reach(true, "restored")
	do(b.Link.Down)
	reach(false, "down")
	do(b.Link.Restore)
	reach(true, "up again")

	const delay = 30 * time.Millisecond
	do(func() error { return l.Link.Delay(delay) })
	start := time.Now()
	reach(true, "delayed")
	if took := time.Since(start); took < 2*delay {
		t.Errorf("a round trip took %v, with %v each way", took, delay)
	}
	do(a.Link.Unplug)
	reach(false, "unplugged while delayed")
	do(a.Link.Plug)
	reach(true, "plugged while delayed")
	do(func() error { return l.Link.Delay(0) })
	reach(true, "delay removed")
}

func TestLinkRate(t *testing.T) {
	l := newLab(t, Options{})
	a, b := l.Hosts[0], l.Hosts[1]
	const rate, amount = 4 << 20, 2 << 20 // bytes per second, bytes
	for _, c := range []struct {
		name   string
		change func() error
		slow   bool
	}{
		{"limited", func() error { return l.Link.Rate(rate) }, true},
		{"limited and delayed", func() error { return l.Link.Delay(time.Millisecond) }, true},
		{"delayed", func() error { return l.Link.Rate(0) }, false},
		{"restored", l.Link.Restore, false},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		const limited = 250 * time.Millisecond
		took := transfer(t, a, b, amount)
		for again := 0; again < 50 && !c.slow && took > limited; again++ { // a slow machine, or the limit?
			took = min(took, transfer(t, a, b, amount))
		}
		t.Logf("%s: %d bytes in %v", c.name, amount, took)
		if slow := took > limited; slow != c.slow {
			t.Errorf("%s: %d bytes took %v", c.name, amount, took)
		}
	}
}

func TestCarried(t *testing.T) {
	l := newLab(t, Options{})
	a, b := l.Hosts[0], l.Hosts[1]
	carried := func(h *Host) uint64 {
		bytes, err := h.Link.Carried()
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	const amount = 1 << 20
	from, back := carried(a), carried(b)
	transfer(t, a, b, amount)
	if sent, answered := carried(a)-from, carried(b)-back; sent < amount || answered == 0 || answered > amount/2 {
		t.Errorf("%d bytes for %d, and %d back", sent, amount, answered)
	}
}

func TestObserver(t *testing.T) {
	l := newLab(t, Options{})
	guest, err := ParseMAC(NATInsideMAC)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	arrived := make(chan error, 1)
	go func() { // the frame crosses the bridge to the other host
		_, err := l.Wire.Await(ctx, func(f Frame) bool { return f.Host == "b" && !f.Sent && f.Source == guest })
		arrived <- err
	}()
	start := time.Now()
	seen := false
	for !seen { // the waiting above may begin late
		sendFrame(t, l.Hosts[0].Space, UplinkIn, testFrame(guest, 300))
		select {
		case err := <-arrived:
			if err != nil {
				t.Fatal(err)
			}
			seen = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := l.Wire.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	sent := l.Wire.SentBy("a", guest)
	if sent.Frames == 0 || sent.Bytes != 300*sent.Frames || sent.First.Before(start.Add(-time.Second)) {
		t.Errorf("host a sent %+v", sent)
	}
	if quiet := l.Wire.SentBy("b", guest); quiet.Frames != 0 {
		t.Errorf("host b sent %+v", quiet)
	}
	frames := l.Wire.Frames(func(f Frame) bool { return f.Sent && f.Host == "a" })
	if len(frames) != int(sent.Frames) {
		t.Fatalf("%d frames of %d", len(frames), sent.Frames)
	}
	if f := frames[0]; f.Port != "in" || f.Length != 300 || len(f.Head) != observedBytes || f.Source != guest {
		t.Errorf("got %+v", f)
	}
	if n, err := l.Wire.Missed(); n != 0 || err != nil {
		t.Errorf("missed %d, %v", n, err)
	}
	l.Wire.Reset()
	if n := len(l.Wire.Frames(nil)); n != 0 {
		t.Errorf("%d frames after Reset", n)
	}
}

func TestClientReachesTheBridge(t *testing.T) {
	l := newLab(t, Options{})
	// Nobody answers for the NAT, but its neighbours hear the question.
	call(within(t, 50*time.Millisecond), l.Client, ServerAddress+":7")
	if err := l.Wire.Settle(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for _, h := range l.Hosts {
		asked := l.Wire.Frames(func(f Frame) bool {
			return f.Host == h.Name && f.Port == "in" && !f.Sent && f.Head[12] == 8 && f.Head[13] == 6 // ARP
		})
		if len(asked) == 0 {
			t.Errorf("host %s heard no ARP request", h.Name)
		}
	}
}

func BenchmarkNewClose(b *testing.B) {
	for b.Loop() {
		l := newLab(b, Options{})
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
