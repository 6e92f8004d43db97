package arbiter

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const filledMachines, filledGenerations = 20, 3

// filled is a member's data with records, noted in its mark.
func filled(t *testing.T) MemberOptions {
	t.Helper()
	o := alone(t)
	m := start(t, o)
	ready(t, m)
	a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
	for i := range filledMachines {
		for g := range uint64(filledGenerations) {
			win(t, a, g, Record{Machine: fmt.Sprint("m", i), Voice: "a"})
		}
	}
	waitFor(t, func() bool {
		mark, err := o.readMark()
		return err == nil && mark != nil && len(mark.Machines) == filledMachines && mark.Machines["m19"].Generation == filledGenerations
	})
	end(t, m)
	return o
}

func copied(t *testing.T, o MemberOptions) MemberOptions {
	t.Helper()
	to := memberOptions(t, "a")
	for from, to := range map[string]string{o.Dir: to.Dir, o.markFile(): to.markFile()} {
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	o.Dir = to.Dir
	return o
}

// served tells how a member fares in a process of its own: all right, or why it
// is down. Anything else fails the test.
func served(t *testing.T, o MemberOptions) string {
	t.Helper()
	k := keepIt(t, &job{Do: "member", Options: o})
	defer k.Close()
	a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
	for i := range filledMachines {
		for {
			r, err := a.Current(within(t, time.Second), fmt.Sprint("m", i))
			if err == nil && r.Generation != filledGenerations {
				t.Fatalf("it serves machine m%d with generation %d", i, r.Generation)
			}
			if err == nil || errors.Is(err, ErrCorrupt) {
				break
			}
			if down := k.Down(); down != "" {
				return down
			}
		}
	}
	return ""
}

// TestDamagedDataIsServedRightOrNotAtAll: whatever byte or page of it is wrong.
func TestDamagedDataIsServedRightOrNotAtAll(t *testing.T) {
	base := filled(t)
	random := rand.New(rand.NewSource(7))
	for i := range 16 {
		o := copied(t, base)
		path := filepath.Join(o.Dir, "member", "snap", "db")
		if i%4 == 3 {
			all, _ := filepath.Glob(filepath.Join(o.Dir, "member", "wal", "*.wal"))
			path = all[0]
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page := random.Intn(len(strings.TrimRight(string(b), "\x00"))/4096 + 1)
		at, n := page*4096, 4096
		if i%2 == 0 {
			at, n = at+random.Intn(4096), 1
		}
		bad := make([]byte, n)
		random.Read(bad)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(bad, int64(at))
		f.Close()
		down := served(t, o)
		t.Logf("%s, %d bytes at %d: %.150q", filepath.Base(path), n, at, down)
	}
}

// TestLostOrOlderDataIsRefused: a member never comes back as if new, or as it
// once was.
func TestLostOrOlderDataIsRefused(t *testing.T) {
	t.Parallel()
	older := filled(t)
	before := copied(t, older)
	m := start(t, older)
	ready(t, m)
	a := openEtcd(t, EtcdOptions{Endpoints: []string{older.Client}})
	win(t, a, filledGenerations, Record{Machine: "m0", Voice: "b"})
	waitFor(t, func() bool {
		mark, err := older.readMark()
		return err == nil && mark.Machines["m0"].Generation == filledGenerations+1
	})
	end(t, m)
	refused := func(what string, o MemberOptions) {
		t.Helper()
		m, err := StartMember(o)
		if err == nil {
			m.Close()
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	o := copied(t, older)
	os.RemoveAll(o.Dir)
	exec.Command("cp", "-a", before.Dir, o.Dir).Run()
	refused("older data", o)
	os.RemoveAll(o.Dir)
	refused("no data", o)
	o = copied(t, older)
	os.WriteFile(o.markFile(), []byte("{}"), 0o600)
	refused("a mark that cannot be read", o)
}

func TestRecordsAreComparedWithTheMark(t *testing.T) {
	t.Parallel()
	was := &mark{Machines: map[string]stood{"m": {3, "x"}}}
	for name, now := range map[string]stood{"gone": {}, "older": {2, "w"}, "another": {3, "y"}} {
		if err := was.compare(map[string]stood{"m": now}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, now := range []stood{{3, "x"}, {4, "z"}} {
		if err := was.compare(map[string]stood{"m": now, "n": {}}); err != nil {
			t.Error(err)
		}
	}
}
