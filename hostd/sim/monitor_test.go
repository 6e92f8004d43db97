package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/stillpoint-ft/stillpoint/qmp"
)

// monitor is a daemon's connection to a QEMU.
type monitor struct {
	q      *qemu
	i      *incarnation
	mu     sync.Mutex
	events chan goqemu.Event
	ended  bool
	once   sync.Once
	quit   chan struct{}
}

var errHungUp = errors.New("QEMU's monitor hung up")

// Connect waits for its turn: QEMU serves one monitor at a time.
func (m *monitor) Connect() error {
	for {
		m.q.mu.Lock()
		free := m.q.monitor == nil
		if free && !m.q.dead() {
			m.q.monitor = m
			m.events = make(chan goqemu.Event, 1024)
		}
		m.q.mu.Unlock()
		if m.q.dead() {
			return errHungUp
		}
		if free {
			m.i.adopt(m)
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-m.quit:
			return errHungUp
		}
	}
}

func (m *monitor) Close() error { return m.Disconnect() }

func (m *monitor) Disconnect() error {
	m.hangUp()
	return nil
}

// hangUp is either side's.
func (m *monitor) hangUp() {
	m.once.Do(func() { close(m.quit) })
	m.q.mu.Lock()
	if m.q.monitor == m {
		m.q.monitor = nil
	}
	m.q.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended && m.events != nil {
		close(m.events)
	}
	m.ended = true
}

func (m *monitor) Events(context.Context) (<-chan goqemu.Event, error) { return m.events, nil }

func (m *monitor) event(name string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	e := goqemu.Event{Event: name}
	e.Timestamp.Seconds, e.Timestamp.Microseconds = time.Now().Unix(), int64(time.Now().Nanosecond()/1000)
	select {
	case m.events <- e:
	default:
	}
}

type command struct {
	Execute   string
	Arguments struct{ Path, Property string }
}

func (m *monitor) Run(line []byte) ([]byte, error) {
	var c command
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	if err := m.reach(); err != nil {
		return nil, err
	}
	out, err := m.q.answer(c)
	if err != nil {
		return nil, err
	}
	return []byte(`{"return":` + out + `}`), nil
}

// reach QEMU, unless it hangs.
func (m *monitor) reach() error {
	for {
		m.q.mu.Lock()
		hung := m.q.hung
		m.q.mu.Unlock()
		select {
		case <-m.quit:
			return errHungUp
		default:
		}
		if hung == nil {
			return nil
		}
		select {
		case <-hung:
		case <-m.quit:
			return errHungUp
		}
	}
}

func (q *qemu) answer(c command) (string, error) {
	switch c.Execute {
	case "query-version":
		return `{"qemu":{"major":10,"minor":0,"micro":13},"package":"false"}`, nil
	case "query-block":
		return `[]`, nil
	case "qom-get":
		return property(c.Arguments.Path, c.Arguments.Property)
	case "query-status":
		q.mu.Lock()
		defer q.mu.Unlock()
		switch {
		case q.guest == nil:
			return `{"status":"inmigrate","running":false}`, nil
		case q.runs:
			return `{"status":"running","running":true}`, nil
		case q.status == "colo":
			return `{"status":"colo","running":false}`, nil
		}
		return `{"status":"paused","running":false}`, nil
	case "query-migrate":
		q.mu.Lock()
		defer q.mu.Unlock()
		return fmt.Sprintf(`{"status":%q,"ram":{"dirty-sync-count":3}}`, q.status), nil
	case "migrate":
		return q.migrate()
	case "migrate-incoming":
		q.mu.Lock()
		defer q.mu.Unlock()
		q.awaits = true
	case "x-colo-lost-heartbeat", "migrate_cancel":
		q.leave()
	case "cont":
		q.resume()
	}
	return `{}`, nil
}

// property of an object: there is the machine alone.
func property(path, name string) (string, error) {
	if path != "/machine" || name != "type" {
		return "", &qmp.RefusedError{Class: "DeviceNotFound", Description: "no " + name + " of " + path}
	}
	return `"pc-i440fx-10.0-machine"`, nil
}

// migrate connects to whoever listens.
func (q *qemu) migrate() (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.listener
	if l == nil || q.status == "active" || q.status == "colo" {
		return "", &qmp.RefusedError{Class: "GenericError", Description: "there is a migration already"}
	}
	q.listener = nil
	mine, theirs := local()
	select {
	case l.accepted <- theirs:
	default:
		return "", &qmp.RefusedError{Class: "GenericError", Description: "nobody listens"}
	}
	q.status = "setup"
	q.h.w.tasks.Go(func() { q.protect(mine) })
	return `{}`, nil
}

// leave COLO, or a copy: the guest runs on alone.
func (q *qemu) leave() {
	q.mu.Lock()
	s := q.stream
	q.stream, q.status = nil, "none"
	stopped := !q.runs && q.guest != nil
	q.mu.Unlock()
	if s != nil {
		s.Close()
	}
	if stopped {
		q.resume()
	}
}
