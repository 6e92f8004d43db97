package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	version = 1
	// maxLine bounds a line in bytes, in either direction.
	maxLine = 1 << 20
	// writeLimit is how long a peer may take no bytes before it is given up.
	writeLimit = 2 * time.Second
)

const (
	opWatch  = "watch"
	opForget = "forget"
	opBeat   = "beat"
	opYank   = "yank"
	opList   = "list"
	opLeave  = "leave"
)

// request is a line of the daemon.
type request struct {
	ID      uint64 `json:"id"`
	Op      string `json:"op"`
	Machine string `json:"machine,omitempty"`
	Pid     int    `json:"pid,omitempty"`
	Monitor string `json:"monitor,omitempty"`
	// Started and Generation are as in Watched; 0 of a daemon that does not tell.
	Started    uint64 `json:"started,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
}

// response is a line of the supervisor: a greeting, a notice or an answer.
type response struct {
	Greeting *greeting `json:"greeting,omitempty"`
	Ended    *Ended    `json:"ended,omitempty"`
	ID       uint64    `json:"id,omitempty"`
	OK       bool      `json:"ok,omitempty"`
	Error    string    `json:"error,omitempty"`
	Machines []Watched `json:"machines,omitempty"`
}

type greeting struct {
	Version int `json:"version"`
	Pid     int `json:"pid"`
	// Silence is in milliseconds.
	Silence int64 `json:"silence_ms"`
}

// Ended says that a machine's QEMU has ended.
type Ended struct {
	Machine string `json:"machine"`
	Pid     int    `json:"pid"`
}

// Watched is a machine that the supervisor holds.
type Watched struct {
	Machine string `json:"machine"`
	Pid     int    `json:"pid"`
	// Monitor is the path of the QMP socket.
	Monitor string `json:"monitor"`
	// Started is when the process began, as StartTime tells: a number may become
	// another process's.
	Started uint64 `json:"started,omitempty"`
	// Generation is the last one that is known to have stood at the arbiter.
	Generation uint64 `json:"generation,omitempty"`
	// Connected says that the monitor is open and out-of-band commands are
	// negotiated.
	Connected bool `json:"connected"`
}

// wire carries lines over a connection. next has one caller at a time; send
// may be called concurrently.
type wire struct {
	conn    net.Conn
	reader  *bufio.Reader
	partial []byte // of a line whose rest was not there in time

	writing sync.Mutex
}

func newWire(conn net.Conn) *wire { return &wire{conn: conn, reader: bufio.NewReader(conn)} }

// next reads a line. A limit above 0 bounds the wait; a line that is cut by it
// is continued by the next call.
func (w *wire) next(limit time.Duration) ([]byte, error) {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	for {
		part, err := w.reader.ReadSlice('\n')
		w.partial = append(w.partial, part...)
		if len(w.partial) > maxLine {
			return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		if err == nil {
			line := w.partial
			w.partial = nil
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// send writes v as a line. A peer that does not take it loses the connection:
// a line that was cut would garble the next ones.
func (w *wire) send(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	w.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := w.conn.Write(append(line, '\n')); err != nil {
		w.conn.Close()
		return err
	}
	return nil
}
