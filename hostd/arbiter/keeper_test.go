package arbiter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
)

// childEnv makes the test binary a process of a member, or of its keeper.
const childEnv = "ARBITER_TEST_CHILD"

// job of a child.
type job struct {
	Do      string
	Options MemberOptions
	File    string
}

func (j job) command() *exec.Cmd {
	b, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	return cmd
}

func child(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Println(err)
		return 1
	}
	switch j.Do {
	case "member":
		j.Options.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, JSONFormat: true, Output: os.Stderr})
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if Attend(ctx, j.Options, os.Stdin, os.Stdout) != nil {
			return 1
		}
	case "small files": // as on a disk that is full all at once
		var limit unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_FSIZE, &limit)
		limit.Cur = 1 << 20
		unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
		signal.Ignore(syscall.SIGXFSZ)
		j.Do = "member"
		b, _ := json.Marshal(j)
		return child(string(b))
	case "panic":
		panic("page 7 is not what it should be")
	case "bus error":
		return fault(j.File)
	case "keeper":
		k := Keep(KeeperOptions{Command: job{Do: "member", Options: j.Options}.command, Log: hclog.NewNullLogger()})
		fmt.Println("kept")
		time.Sleep(time.Hour)
		k.Close()
	}
	return 0
}

// fault reads a page of a file that is no longer there.
func fault(path string) int {
	f, err := os.Create(path)
	if err != nil {
		return 1
	}
	f.Truncate(1 << 16)
	b, err := unix.Mmap(int(f.Fd()), 0, 1<<16, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 1
	}
	f.Truncate(0)
	return int(b[1<<15])
}

// kept is a Keeper that ends with the test.
type kept struct {
	*Keeper
	log    journal.Journal
	starts atomic.Int32
	mended atomic.Int32
	pid    atomic.Int32
}

func keepIt(t *testing.T, j *job) *kept {
	t.Helper()
	k := &kept{}
	k.Keeper = Keep(KeeperOptions{
		Command: func() *exec.Cmd { k.starts.Add(1); return j.command() },
		Changed: func() string { return strconv.Itoa(int(k.mended.Load())) },
		Advice:  "replace it", Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &k.log}),
		firstPause: 10 * time.Millisecond, longestPause: time.Hour, lookEvery: 5 * time.Millisecond,
	})
	t.Cleanup(func() {
		k.Close()
		if t.Failed() {
			t.Log(k.log.String())
		}
	})
	return k
}

// children of this process that serve a member's directory.
func children(t *testing.T, dir string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		b, _ := os.ReadFile(path)
		for _, v := range bytes.Split(b, []byte{0}) {
			var j job
			text, ok := strings.CutPrefix(string(v), childEnv+"=")
			if ok && json.Unmarshal([]byte(text), &j) == nil && j.Do == "member" && j.Options.Dir == dir {
				pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func alone(t *testing.T) MemberOptions {
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}}
	return o
}

// TestAProcessThatDies: why is told, and it is not tried again and again.
func TestAProcessThatDies(t *testing.T) {
	t.Parallel()
	for do, want := range map[string]string{
		"panic": "page 7 is not what it should be", "bus error": "SIGBUS",
	} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			k := keepIt(t, &job{Do: do, File: filepath.Join(t.TempDir(), "f")})
			<-k.Changed()
			if down := k.Down(); !strings.Contains(down, want) || !strings.Contains(down, "replace it") {
				t.Errorf("down: %q", down)
			}
			if log := k.log.String(); !strings.Contains(log, "[ERROR]") || !strings.Contains(log, want) {
				t.Errorf("log: %q", log)
			}
		})
	}
}

// TestTriesBecomeRare: each pause is twice the one before.
func TestTriesBecomeRare(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	k := keepIt(t, &job{Do: "panic"})
	waitFor(t, func() bool { return k.starts.Load() == 5 })
	if took, least := time.Since(begun), 150*time.Millisecond; took < least {
		t.Errorf("five starts took %v; the pauses are %v at least", took, least)
	}
}

// TestAMendedMemberIsStartedAtOnce: nobody waits for a long pause to end.
func TestAMendedMemberIsStartedAtOnce(t *testing.T) {
	t.Parallel()
	j := &job{Do: "panic", Options: alone(t)}
	k := &kept{}
	var do atomic.Value
	do.Store("panic")
	k.Keeper = Keep(KeeperOptions{
		Command: func() *exec.Cmd { return job{Do: do.Load().(string), Options: j.Options}.command() },
		Changed: func() string { return do.Load().(string) },
		Log:     hclog.NewNullLogger(), firstPause: time.Hour, lookEvery: 5 * time.Millisecond,
	})
	t.Cleanup(k.Close)
	<-k.Changed()
	if k.Down() == "" {
		t.Error("a member that died is not down")
	}
	do.Store("member")
	<-k.Changed()
	if down := k.Down(); down != "" {
		t.Errorf("down: %q", down)
	}
}

func TestAKilledMemberComesBack(t *testing.T) {
	t.Parallel()
	o := alone(t)
	k := keepIt(t, &job{Do: "member", Options: o})
	a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
	stands := win(t, a, 0, Record{Machine: "nat", Voice: "a"})
	before := children(t, o.Dir)
	if len(before) != 1 {
		t.Fatalf("processes %v", before)
	}
	syscall.Kill(before[0], syscall.SIGKILL)
	waitFor(t, func() bool { return k.starts.Load() > 1 && k.Down() == "" })
	if n := strings.Count(k.log.String(), "[INFO]  the arbiter's member on this host is up"); n != 2 {
		t.Errorf("the log says %d times that it is up", n)
	}
	if r, err := a.Current(soon(t), "nat"); err != nil || r != stands {
		t.Errorf("%+v, %v", r, err)
	}
	k.Close()
	if after := children(t, o.Dir); len(after) > 0 {
		t.Errorf("processes %v are left", after)
	}
}

// TestAMemberDiesWithItsKeeper: a later one finds no port and no directory
// taken, even by a member that stands still.
func TestAMemberDiesWithItsKeeper(t *testing.T) {
	t.Parallel()
	o := alone(t)
	cmd := job{Do: "keeper", Options: o}.command()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
	stands := win(t, a, 0, Record{Machine: "nat", Voice: "a"})
	orphan := children(t, o.Dir)
	if len(orphan) != 1 {
		t.Fatalf("processes %v", orphan)
	}
	syscall.Kill(orphan[0], syscall.SIGSTOP)
	cmd.Process.Kill()
	cmd.Wait()
	var m *Member
	waitFor(t, func() (ended bool) { // what a process has open is closed a moment after it is gone
		var err error
		m, err = StartMember(o)
		return err == nil
	})
	t.Cleanup(func() { end(t, m) })
	ready(t, m)
	if r, err := a.Current(soon(t), "nat"); err != nil || r != stands {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestADiskThatFailsEndsTheMember: and what it leaves behind ends with it.
func TestADiskThatFailsEndsTheMember(t *testing.T) {
	t.Parallel()
	o := alone(t)
	j := &job{Do: "small files", Options: o}
	k := keepIt(t, j)
	<-k.Changed()
	if down := k.Down(); !strings.Contains(down, "file too large") {
		t.Errorf("down: %q", down)
	}
	k.Close()
	ready(t, start(t, o)) // the directory is not locked
}

func TestWhatAProcessSays(t *testing.T) {
	t.Parallel()
	var log journal.Journal
	h := &hearing{log: hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &log}), ready: func() {}}
	h.errput(strings.NewReader(`{"@level":"warn","@message":"slow fsync","@module":"hostd","took":"3s","b":1}
{"@level":"debug","@message":"unheard"}
{"no":"log"}
` + strings.Repeat("x", 3*longestLine) + `
panic: bad page

goroutine 1 [running]:
main.main()
`))
	if got := log.String(); !strings.Contains(got, "[WARN]  slow fsync: b=1 took=3s") || strings.Contains(got, "unheard") {
		t.Errorf("log: %q", got)
	}
	why := h.why(errors.New("wait failed")).Error()
	if !strings.Contains(why, "panic: bad page") || strings.Contains(why, "main.main") || len(why) > 2*longestLine {
		t.Errorf("why: %q", why)
	}
	h.output(strings.NewReader("ready\nfailed {\"error\":\"it is full\",\"kind\":\"no room\"}\n"))
	if err := h.why(nil); !errors.Is(err, ErrNoRoom) || err.Error() != "it is full" {
		t.Errorf("%v", err)
	}
	if got := sorted([]any{"b", 1, "a", 2}); !slices.Equal(got, []any{"a", 2, "b", 1}) {
		t.Error(got)
	}
}
