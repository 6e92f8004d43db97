package falseqemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// monitor is one connection of QMP.
type monitor struct {
	conn    net.Conn
	writing sync.Mutex
}

// version of the series that is played.
func (q *qemu) version() string {
	if q.guest.Series >= 11 {
		return `{"qemu":{"major":11,"minor":1,"micro":3},"package":"false"}`
	}
	return `{"qemu":{"major":10,"minor":0,"micro":13},"package":"false"}`
}

// accept serves one monitor after the other, as QEMU does on one socket.
func (q *qemu) accept(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		q.attend(&monitor{conn: conn})
	}
}

// command is a line from the daemon.
type command struct {
	Execute   string
	OutOfBand string `json:"exec-oob"`
	Arguments struct {
		URI            string
		Path, Property string
		Capabilities   []struct {
			Capability string
			State      bool
		}
	}
	ID json.RawMessage
}

func (q *qemu) attend(m *monitor) {
	defer m.conn.Close()
	m.say(`{"QMP":{"version":` + q.version() + `,"capabilities":["oob"]}}`)
	q.add(m)
	defer q.remove(m)
	for lines := bufio.NewScanner(m.conn); lines.Scan(); {
		var c command
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue
		}
		id := ""
		if c.ID != nil {
			id = `,"id":` + string(c.ID)
		}
		m.say(`{` + q.answer(c) + id + `}`)
	}
}

func (q *qemu) add(m *monitor) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.monitors = append(q.monitors, m)
}

func (q *qemu) remove(m *monitor) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range q.monitors {
		if x == m {
			q.monitors = append(q.monitors[:i:i], q.monitors[i+1:]...)
			return
		}
	}
}

func (m *monitor) say(line string) {
	m.writing.Lock()
	defer m.writing.Unlock()
	io.WriteString(m.conn, line+"\r\n")
}

// event tells every monitor.
func (q *qemu) event(name string) {
	now := time.Now()
	line := fmt.Sprintf(`{"timestamp":{"seconds":%d,"microseconds":%d},"event":%q}`, now.Unix(), now.Nanosecond()/1000, name)
	q.mu.Lock()
	monitors := q.monitors
	q.mu.Unlock()
	for _, m := range monitors {
		m.say(line)
	}
}

// answer is a "return" or an "error" member.
func (q *qemu) answer(c command) string {
	result, err := q.obey(c)
	if err != nil {
		return fmt.Sprintf(`"error":{"class":"GenericError","desc":%q}`, err.Error())
	}
	return `"return":` + result
}

func (q *qemu) obey(c command) (result string, err error) {
	switch c.Execute + c.OutOfBand {
	case "query-version":
		return q.version(), nil
	case "query-status":
		q.mu.Lock()
		defer q.mu.Unlock()
		return fmt.Sprintf(`{"status":%q,"running":%v}`, q.runState, q.runState == "running"), nil
	case "query-migrate":
		q.mu.Lock()
		defer q.mu.Unlock()
		return fmt.Sprintf(`{"status":%q,"ram":{"dirty-sync-count":3}}`, q.status), nil
	case "qom-get":
		return q.property(c.Arguments.Path, c.Arguments.Property)
	case "query-yank":
		return `[]`, nil
	case "query-block":
		if q.guest.Fault == WritesDisk {
			return `[{"device":"virtio0","qdev":"/machine/peripheral-anon/device[2]/virtio-backend","inserted":{"ro":false,"file":"/srv/m.img","drv":"raw"}}]`, nil
		}
		return `[]`, nil
	case "migrate-set-capabilities":
		return `{}`, q.setCapabilities(c)
	case "migrate_cancel":
		q.setStatus("cancelled")
		q.setRunState("running")
	case "migrate":
		if q.guest.Fault == Deaf {
			select {}
		}
		go q.migrate(strings.TrimPrefix(c.Arguments.URI, "unix:"))
	case "migrate-incoming":
		if q.guest.Fault == EndsPrepared {
			fmt.Fprintln(os.Stderr, "qemu: cannot set up guest memory 'ram0': Cannot allocate memory")
			os.Exit(1)
		}
		return `{}`, q.listenIncoming(c.Arguments.URI)
	case "x-colo-lost-heartbeat":
		q.setStatus("none")
		q.setRunState("running")
	}
	return `{}`, nil
}

// tellsAfter is longer than a host waits for a peer to say what it wants.
const tellsAfter = 3 * time.Second

// property of an object. A card offers everything.
func (q *qemu) property(path, name string) (string, error) {
	switch {
	case path == "/machine" && name == "type":
		if q.guest.Fault == TellsLate {
			time.Sleep(tellsAfter)
		}
		return fmt.Sprintf(`"pc-i440fx-%d.0-machine"`, q.guest.Series), nil
	case !strings.HasPrefix(path, "/machine/peripheral/"):
		return "", fmt.Errorf("Device '%s' not found", path)
	case name == "type":
		return `"virtio-net-pci"`, nil
	}
	return "true", nil
}

// setCapabilities refuses what the series refuses. They stay from one migration to
// the next.
func (q *qemu) setCapabilities(c command) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := maps.Clone(q.capabilities)
	for _, x := range c.Arguments.Capabilities {
		now[x.Capability] = x.State
	}
	if q.guest.Series >= 11 && now["x-colo"] && !now["return-path"] {
		return errors.New("Capability 'x-colo' requires capability 'return-path'")
	}
	q.capabilities = now
	return nil
}

func (q *qemu) returnPath() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.capabilities["return-path"]
}
