package capture_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// falseQEMU is a go-qemu Monitor whose "migrate" plays a script over the
// capture's socket, as QEMU would.
type falseQEMU struct {
	script func(*peer) error
	events chan goqemu.Event
	series int    // of QEMU: 10 or 11
	ram    string // file of the main memory, for QEMUs whose tracking has gaps
	small  bool   // the socket holds little
	device uint64 // bytes of device state that are allowed
	played sync.WaitGroup

	// lock is QEMU's big one: the monitor answers nothing while another has it.
	lock sync.Mutex

	mu       sync.Mutex
	status   string // of the migration
	running  bool
	left     bool   // COLO was left by command
	enters   bool   // COLO, as soon as it has been looked at
	waits    bool   // for a guest
	itself   string // the state in which the guest has put itself, if not running
	captured error  // why the script ended

	capabilities map[string]bool
	told         []string // commands
}

func newFalseQEMU(script func(*peer) error) *falseQEMU {
	return &falseQEMU{script: script, events: make(chan goqemu.Event, 64), status: "active", running: true,
		series: 10, device: 1 << 10, capabilities: map[string]bool{}}
}

func (q *falseQEMU) Connect() error { return nil }

func (q *falseQEMU) Disconnect() error { return nil }

func (q *falseQEMU) Events(ctx context.Context) (<-chan goqemu.Event, error) {
	out := make(chan goqemu.Event)
	go func() {
		defer close(out)
		for {
			select {
			case e := <-q.events:
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (q *falseQEMU) Run(line []byte) ([]byte, error) {
	var c struct {
		Execute   string
		Arguments struct {
			URI          string
			Capabilities []struct {
				Capability string
				State      bool
			}
		}
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	q.lock.Lock()
	defer q.lock.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told = append(q.told, c.Execute)
	switch c.Execute {
	case "migrate-set-capabilities":
		now := maps.Clone(q.capabilities)
		for _, x := range c.Arguments.Capabilities {
			now[x.Capability] = x.State
		}
		if q.series >= 11 && now["x-colo"] && !now["return-path"] {
			return nil, &qmp.RefusedError{Class: qmp.ClassGeneric, Description: "Capability 'x-colo' requires capability 'return-path'"}
		}
		q.capabilities = now
	case "migrate":
		return []byte(`{"return":{}}`), q.migrate(strings.TrimPrefix(c.Arguments.URI, "unix:"))
	case "migrate_cancel":
		q.status = "cancelled"
	case "query-migrate":
		if q.enters {
			defer func() { q.status, q.enters = "colo", false }()
		}
		return []byte(`{"return":{"status":"` + q.status + `","error-desc":"so the test wants it","ram":{"dirty-sync-count":3}}}`), nil
	case "query-status":
		if q.waits {
			return []byte(`{"return":{"status":"inmigrate","running":false}}`), nil
		}
		if q.running && q.itself != "" {
			return fmt.Appendf(nil, `{"return":{"status":%q,"running":false}}`, q.itself), nil
		}
		if q.running {
			return []byte(`{"return":{"status":"running","running":true}}`), nil
		}
		return []byte(`{"return":{"status":"finish-migrate"}}`), nil
	case "x-colo-lost-heartbeat":
		q.left, q.running, q.status = true, true, "completed"
	}
	return []byte(`{"return":{}}`), nil
}

func (q *falseQEMU) migrate(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	if q.small {
		conn.(*net.UnixConn).SetWriteBuffer(1)
	}
	q.played.Go(func() {
		defer conn.Close()
		q.captured = q.script(&peer{Conn: conn, q: q, flip: -1})
	})
	return nil
}

func (q *falseQEMU) enter(status string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.status = status
}

func (q *falseQEMU) say(event string, running bool) {
	q.mu.Lock()
	q.running = running
	q.mu.Unlock()
	e := goqemu.Event{Event: event}
	now := time.Now()
	e.Timestamp.Seconds, e.Timestamp.Microseconds = now.Unix(), int64(now.Nanosecond()/1000)
	q.events <- e
}

// client is the monitor as the daemon sees it.
func (q *falseQEMU) client(t *testing.T) *qmp.Client {
	t.Helper()
	c, err := qmp.New(t.Context(), q, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// peer is the false QEMU's end of the COLO channel. It can spoil what it
// sends: everything from byte cut on is not sent, one bit of byte flip is
// turned.
type peer struct {
	net.Conn
	q        *falseQEMU
	sent     int
	cut      int // 0 for never
	flip     int // -1 for never
	bit      uint
	patience time.Duration // for the daemon's answers; 0 is without end
}

var errCut = errors.New("the stream was cut here")

func (p *peer) send(b []byte) error {
	if p.flip >= p.sent && p.flip < p.sent+len(b) {
		b = append([]byte(nil), b...)
		b[p.flip-p.sent] ^= 1 << p.bit
	}
	if p.cut > 0 && p.sent+len(b) > p.cut {
		p.Write(b[:p.cut-p.sent])
		return errCut
	}
	p.sent += len(b)
	_, err := p.Write(b)
	return err
}

// locked sends as QEMU does with its big lock held.
func (p *peer) locked(b []byte) error {
	p.q.lock.Lock()
	defer p.q.lock.Unlock()
	return p.send(b)
}

func (p *peer) message(m colo.Message) error { return p.send(colo.AppendMessage(nil, m)) }

func (p *peer) expect(want ...colo.Message) error {
	if p.patience > 0 {
		p.SetReadDeadline(time.Now().Add(p.patience))
	}
	for _, w := range want {
		var b [4]byte
		if _, err := io.ReadFull(p.Conn, b[:]); err != nil {
			return err
		}
		if got := colo.Message(binary.BigEndian.Uint32(b[:])); got != w {
			return errors.New("the daemon sent " + got.String() + " instead of " + w.String())
		}
	}
	return nil
}
