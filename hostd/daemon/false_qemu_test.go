package daemon_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

// falseQEMU is what this test binary is when a daemon runs it as QEMU: as much
// of QMP and COLO as a daemon asks for, with one page of a guest. The
// specification's "append" says how it behaves.
type falseQEMU struct {
	mode    string
	mu      sync.Mutex
	monitor net.Conn
	status  string // of the migration
}

// playFalseQEMU ends with the process that the test is.
func playFalseQEMU(args []string) error {
	go func() {
		for parent := os.Getppid(); os.Getppid() == parent; {
			time.Sleep(100 * time.Millisecond) // an orphan must not stay
		}
		os.Exit(1)
	}()
	q := &falseQEMU{mode: option(args, "-append"), status: "none"}
	if q.mode == "ends" {
		return fmt.Errorf("qemu: -device unheard-of: no such device")
	}
	if err := makeRAM(option(args, "-object")); err != nil {
		return err
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(option(args, "-qmp"), "unix:"), ",")
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		q.serve(conn)
	}
}

func option(args []string, name string) string {
	for i, a := range args[:len(args)-1] {
		if a == name {
			return args[i+1]
		}
	}
	return ""
}

func makeRAM(object string) error {
	var path string
	var mib int64
	for _, field := range strings.Split(object, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "mem-path":
			path = value
		case "size":
			fmt.Sscanf(value, "%dM", &mib)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(mib << 20)
}

func (q *falseQEMU) say(line string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	io.WriteString(q.monitor, line+"\r\n")
}

func (q *falseQEMU) event(name string) {
	now := time.Now()
	q.say(fmt.Sprintf(`{"timestamp":{"seconds":%d,"microseconds":%d},"event":%q}`, now.Unix(), now.Nanosecond()/1000, name))
}

func (q *falseQEMU) migration(status string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.status = status
}

func (q *falseQEMU) serve(conn net.Conn) {
	defer conn.Close()
	q.mu.Lock()
	q.monitor = conn
	q.mu.Unlock()
	q.say(`{"QMP":{"version":{"qemu":{"major":10,"minor":0,"micro":13},"package":"false"},"capabilities":["oob"]}}`)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var c struct {
			Execute   string
			Arguments struct{ URI string }
			ID        json.RawMessage
		}
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue
		}
		id := ""
		if c.ID != nil {
			id = `,"id":` + string(c.ID)
		}
		q.say(`{"return":` + q.answer(c.Execute, strings.TrimPrefix(c.Arguments.URI, "unix:")) + id + `}`)
	}
}

func (q *falseQEMU) answer(command, socket string) string {
	switch command {
	case "query-version":
		return `{"qemu":{"major":10,"minor":0,"micro":13},"package":"false"}`
	case "query-status":
		return `{"status":"running","running":true}`
	case "query-migrate":
		q.mu.Lock()
		defer q.mu.Unlock()
		return fmt.Sprintf(`{"status":%q,"ram":{"dirty-sync-count":3}}`, q.status)
	case "migrate":
		go q.migrate(socket)
	}
	return `{}`
}

func (q *falseQEMU) migrate(socket string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer conn.Close()
	q.migration("active")
	switch q.mode {
	case "garbage":
		conn.Write(bytes.Repeat([]byte("garbage "), 1<<14))
	case "dies":
		fmt.Fprintln(os.Stderr, "qemu: died, so the test wants it")
		os.Exit(1)
	case "hangs up":
	default:
		q.colo(conn)
	}
}

// colo plays a guest that dirties one page in each epoch. The page's content
// and the modes "bad checkpoint" and "large device" are the misbehaviour.
func (q *falseQEMU) colo(conn net.Conn) {
	conn.Write(firstCopy())
	q.migration("colo")
	if !hear(conn, colo.CheckpointReady) {
		return
	}
	for {
		q.event("RESUME")
		conn.Write(colo.AppendMessage(nil, colo.CheckpointRequest))
		if !hear(conn, colo.CheckpointReply) {
			return
		}
		q.event("STOP")
		conn.Write(colo.AppendMessage(nil, colo.VMStateSend))
		conn.Write(q.checkpoint())
		if !hear(conn, colo.VMStateReceived) || !hear(conn, colo.VMStateLoaded) {
			return
		}
	}
}

func hear(conn net.Conn, want colo.Message) bool {
	var b [4]byte
	_, err := io.ReadFull(conn, b[:])
	return err == nil && colo.Message(binary.BigEndian.Uint32(b[:])) == want
}

const (
	ramBytes  = 16 << 20
	pageBytes = 4096
)

var (
	ramEnd = []byte{0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 2}
	ram0   = []byte("\x04ram0")
)

func firstCopy() []byte {
	var b []byte
	u32 := func(v uint32) { b = binary.BigEndian.AppendUint32(b, v) }
	u64 := func(v uint64) { b = binary.BigEndian.AppendUint64(b, v) }
	u32(0x5145564d)
	u32(3)
	b = append(b, 7)
	u32(4)
	b = append(b, "pc-1\x01"...)
	u32(2)
	b = append(b, "\x03ram"...)
	u32(0)
	u32(4)
	u64(ramBytes | 4)
	b = append(b, ram0...)
	u64(ramBytes)
	b = append(b, ramEnd...)
	for range 2 { // the second time what was dirtied meanwhile
		b = append(b, 2, 0, 0, 0, 2)
		b = append(b, page(0, 0xa1)...)
		b = append(b, ramEnd...)
	}
	return append(b, 4)
}

func page(offset uint64, fill byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, offset|8)
	b = append(b, ram0...)
	return append(b, bytes.Repeat([]byte{fill}, pageBytes)...)
}

func (q *falseQEMU) checkpoint() []byte {
	b := []byte{2, 0, 0, 0, 2}
	if q.mode == "bad checkpoint" {
		return append(b, page(ramBytes, 1)...)
	}
	b = append(b, page(pageBytes, 0xc2)...)
	b = append(b, ramEnd...)
	b = append(b, 0)
	b = colo.AppendMessage(b, colo.VMStateSize)
	size := uint64(64)
	if q.mode == "large device" {
		size = 1 << 40
	}
	b = binary.BigEndian.AppendUint64(b, size)
	return append(b, make([]byte, 64)...)
}
