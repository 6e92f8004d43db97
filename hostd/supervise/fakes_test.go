package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// falseQEMU is a real process (sleep) and a QMP socket that this test serves.
type falseQEMU struct {
	t       *testing.T
	path    string
	command *exec.Cmd
	exited  chan struct{}
	l       net.Listener
	served  sync.WaitGroup

	mu        sync.Mutex
	conns     map[net.Conn]bool
	accepted  int
	migration string
	status    string
	hangs     bool         // no in-band command is answered until a yank
	held      []chan error // commands that wait for it
	heard     []string
}

func newFalseQEMU(t *testing.T, migration, status string) *falseQEMU {
	t.Helper()
	q := &falseQEMU{t: t, path: filepath.Join(t.TempDir(), "oob"), exited: make(chan struct{}),
		conns: map[net.Conn]bool{}, migration: migration, status: status}
	q.command = exec.Command("sleep", "1000")
	if err := q.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(q.exited); q.command.Wait() }()
	var err error
	if q.l, err = net.Listen("unix", q.path); err != nil {
		t.Fatal(err)
	}
	q.served.Go(q.accept)
	t.Cleanup(q.end)
	return q
}

func (q *falseQEMU) end() {
	q.command.Process.Kill()
	<-q.exited
	q.l.Close()
	q.hangUp()
	q.release()
	q.served.Wait()
}

func (q *falseQEMU) pid() int { return q.command.Process.Pid }

func (q *falseQEMU) accept() {
	for {
		conn, err := q.l.Accept()
		if err != nil {
			return
		}
		q.mu.Lock()
		q.conns[conn] = true
		q.accepted++
		q.mu.Unlock()
		q.served.Go(func() { q.serve(conn) })
	}
}

func (q *falseQEMU) hangUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for conn := range q.conns {
		conn.Close()
	}
}

func (q *falseQEMU) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hangs = false
	for _, c := range q.held {
		close(c)
	}
	q.held = nil
}

type qmpCommand struct {
	Execute string
	OOB     string `json:"exec-oob"`
	ID      json.RawMessage
}

// serve answers in-band commands in their order, and others past them.
func (q *falseQEMU) serve(conn net.Conn) {
	var writing sync.Mutex
	say := func(line string) {
		writing.Lock()
		defer writing.Unlock()
		fmt.Fprintf(conn, "%s\r\n", line)
	}
	inBand := make(chan qmpCommand, 100)
	q.served.Go(func() {
		for c := range inBand {
			q.waitWhileHanging()
			say(fmt.Sprintf(`{"return":%s,"id":%s}`, q.do(c.Execute), c.ID))
		}
	})
	defer close(inBand)
	defer conn.Close()
	say(`{"QMP":{"version":{"qemu":{"major":10,"minor":0,"micro":13},"package":"false"},"capabilities":["oob"]}}`)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var c qmpCommand
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			q.t.Errorf("QEMU heard %q", lines.Bytes())
			return
		}
		if c.OOB == "" {
			inBand <- c
			continue
		}
		say(fmt.Sprintf(`{"return":%s,"id":%s}`, q.do(c.OOB), c.ID))
	}
}

func (q *falseQEMU) waitWhileHanging() {
	q.mu.Lock()
	if !q.hangs {
		q.mu.Unlock()
		return
	}
	c := make(chan error)
	q.held = append(q.held, c)
	q.mu.Unlock()
	<-c
}

func (q *falseQEMU) do(command string) string {
	if command == "yank" {
		q.release()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.heard = append(q.heard, command)
	switch command {
	case "query-migrate":
		return fmt.Sprintf(`{"status":%q}`, q.migration)
	case "query-status":
		return fmt.Sprintf(`{"status":%q,"running":%t}`, q.status, q.status == "running")
	case "query-yank":
		return `[{"type":"chardev","id":"agent"},{"type":"migration"}]`
	case "x-colo-lost-heartbeat":
		q.migration, q.status = "completed", "running"
	case "cont":
		q.status = "running"
	case "yank":
		if q.migration == "device" {
			q.migration, q.status = "failed", "running"
		}
	}
	return `{}`
}

func (q *falseQEMU) set(migration, status string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.migration, q.status = migration, status
}

func (q *falseQEMU) hang() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hangs = true
}

func (q *falseQEMU) count(command string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, c := range q.heard {
		if c == command {
			n++
		}
	}
	return n
}

func (q *falseQEMU) runs() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.status == "running" && q.migration != "colo"
}

func (q *falseQEMU) connections() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.accepted
}

func (q *falseQEMU) alive() bool {
	select {
	case <-q.exited:
		return false
	default:
		return true
	}
}

var errSilent = errors.New("the test wants it silent")

// falseArbiter holds one record for all machines.
type falseArbiter struct {
	mu      sync.Mutex
	record  Record
	silent  bool
	asked   int
	claims  int
	onClaim func(*falseArbiter) // before the claim is decided, with the lock
}

func (a *falseArbiter) Current(context.Context, string) (Record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.silent {
		return Record{}, errSilent
	}
	return a.record, nil
}

func (a *falseArbiter) ClaimSolo(_ context.Context, _ string, expect uint64) (Record, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claims++
	if a.onClaim != nil {
		a.onClaim(a)
	}
	if a.silent {
		return Record{}, false, errSilent
	}
	if a.record.Generation != expect {
		return a.record, false, nil
	}
	a.record = Record{Generation: expect + 1, Voice: "a"}
	return a.record, true, nil
}

func (a *falseArbiter) set(r Record, silent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record, a.silent = r, silent
}

func (a *falseArbiter) questions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func (a *falseArbiter) claimed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.claims
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
