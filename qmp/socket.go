package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/hashicorp/go-hclog"
)

const (
	// maxLine bounds one reply; the longest known, query-qmp-schema, is 207 KB.
	maxLine = 8 << 20
	// maxGarbage is how many lines that are no QMP are passed over.
	maxGarbage = 16
	// eventBurst is how many events may wait for the Client's pump.
	eventBurst = 64
	// maxEarly is how many events may come before the greeting.
	maxEarly = 1 << 12
)

// socket is a go-qemu Monitor over QEMU's socket. See the package comment for
// why it is not go-qemu's.
type socket struct {
	path      string
	wantOOB   bool
	log       hclog.Logger
	conn      net.Conn
	lines     *bufio.Reader
	events    chan goqemu.Event
	quit      chan struct{} // closed by Disconnect
	quitOnce  sync.Once
	reader    sync.WaitGroup
	writing   sync.Mutex
	mu        sync.Mutex // guards what follows
	pending   []*call    // oldest first
	nextID    uint64
	ended     error
	outOfBand bool
}

// call is a command whose reply is still to come.
type call struct {
	id    uint64
	reply chan answer // holds one
}

// message is any line from QEMU.
type message struct {
	QMP *struct {
		Capabilities []string `json:"capabilities"`
	} `json:"QMP"`
	goqemu.Event
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

func newSocket(conn net.Conn, path string, outOfBand bool, log hclog.Logger) *socket {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &socket{
		path: path, wantOOB: outOfBand, log: log, conn: conn,
		lines:  bufio.NewReaderSize(conn, 64<<10),
		events: make(chan goqemu.Event, eventBurst), quit: make(chan struct{}),
	}
}

// String names the monitor in errors.
func (s *socket) String() string { return s.path }

// OutOfBand reports whether out-of-band commands were negotiated.
func (s *socket) OutOfBand() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outOfBand
}

// Err says why the connection ended; nil while it lives.
func (s *socket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Connect does the handshake. Disconnect ends it from outside.
func (s *socket) Connect() error {
	early, offered, err := s.greeting()
	if err != nil {
		return fmt.Errorf("read QEMU's greeting: %w", err)
	}
	if s.wantOOB && !slices.Contains(offered, "oob") {
		return errors.New("QEMU offers no out-of-band commands")
	}
	if err := s.startReader(early); err != nil {
		return err
	}
	line := `{"execute":"qmp_capabilities"}`
	if s.wantOOB {
		line = `{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}`
	}
	if _, err := s.Run([]byte(line)); err != nil {
		return fmt.Errorf("negotiate capabilities: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outOfBand = s.wantOOB
	return nil
}

// startReader unless Disconnect was called, which waits for the reader.
func (s *socket) startReader(early []goqemu.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quit:
		return net.ErrClosed
	default:
	}
	s.reader.Go(func() { s.read(early) })
	return nil
}

// greeting reads up to QEMU's first word to us. Events are for every client that is
// connected, and can come before it.
func (s *socket) greeting() (early []goqemu.Event, capabilities []string, err error) {
	for {
		line, err := readLine(s.lines, maxLine)
		if err != nil {
			return nil, nil, err
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, nil, err
		}
		switch {
		case m.QMP != nil:
			return early, m.QMP.Capabilities, nil
		case m.Event.Event == "":
			return nil, nil, errors.New("this is not a QMP socket")
		case len(early) < maxEarly:
			early = append(early, m.Event)
		default:
			return nil, nil, fmt.Errorf("more than %d events and no greeting", maxEarly)
		}
	}
}

// Disconnect closes the connection, fails pending commands and waits for the
// reader. It may be called twice.
func (s *socket) Disconnect() error {
	var err error
	s.quitOnce.Do(func() {
		s.mu.Lock()
		close(s.quit)
		s.mu.Unlock()
		if err = s.conn.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // the reader was first: QEMU had ended
		}
	})
	s.reader.Wait()
	return err
}

// Events gives the one stream of events, until Disconnect or QEMU's end.
func (s *socket) Events(context.Context) (<-chan goqemu.Event, error) { return s.events, nil }

// Run sends a command and waits for its reply. It ends with the connection at
// the latest.
func (s *socket) Run(command []byte) ([]byte, error) {
	c, err := s.begin()
	if err != nil {
		return nil, err
	}
	if err := s.send(c.id, command); err != nil {
		// A line cut short would garble the next ones.
		s.end(fmt.Errorf("send: %w", err))
		s.conn.Close()
	}
	a := <-c.reply
	return a.out, a.err
}

func (s *socket) begin() (*call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, ErrEnded, s.ended)
	}
	s.nextID++
	c := &call{id: s.nextID, reply: make(chan answer, 1)}
	s.pending = append(s.pending, c)
	return c, nil
}

// send puts the id in and writes the command as one line.
func (s *socket) send(id uint64, command []byte) error {
	object := bytes.TrimRight(command, " \r\n")
	if len(object) == 0 || object[len(object)-1] != '}' {
		return errors.New("the command is not a JSON object")
	}
	line := fmt.Appendf(bytes.Clone(object[:len(object)-1]), ",\"id\":%d}\n", id)
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.conn.Write(line)
	return err
}

// read is the connection's reader until it ends. Events that came before it began
// come first.
func (s *socket) read(early []goqemu.Event) {
	defer close(s.events)
	defer s.conn.Close()
	// Nobody takes events before the handshake is over, whose answer is read here:
	// they are handed on elsewhere, in their order.
	arrived := newBacklog(early)
	var handing sync.WaitGroup
	defer handing.Wait()
	defer arrived.end()
	handing.Go(func() { arrived.handTo(s.events, s.quit) })
	garbage := 0
	for {
		line, err := readLine(s.lines, maxLine)
		if err != nil {
			s.end(err)
			return
		}
		if err := s.handle(line, arrived); err != nil {
			s.log.Warn("QEMU's monitor said what is no QMP", "socket", s.path, "error", err)
			if garbage++; garbage > maxGarbage {
				s.end(fmt.Errorf("more than %d lines are no QMP: %w", maxGarbage, err))
				return
			}
		}
	}
}

func (s *socket) handle(line []byte, arrived *backlog) error {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	switch {
	case m.Event.Event != "":
		arrived.add(m.Event)
		return nil
	case m.Error != nil:
		return s.answer(m.ID, answer{err: &RefusedError{Class: m.Error.Class, Description: m.Error.Desc}})
	case m.Return != nil:
		return s.answer(m.ID, answer{out: bytes.Clone(line)})
	}
	return errors.New("neither an event nor a reply")
}

// answer finds the command of a reply; one without an id is the oldest's.
func (s *socket) answer(id *uint64, a answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.pending, func(c *call) bool { return id == nil || c.id == *id })
	if i < 0 {
		return errors.New("a reply to no command")
	}
	s.pending[i].reply <- a
	s.pending = slices.Delete(s.pending, i, i+1)
	return nil
}

// end fails all pending commands; the first reason stands.
func (s *socket) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = why
	}
	for _, c := range s.pending {
		c.reply <- answer{err: fmt.Errorf("%w: %w: %w", ErrOutcomeUnknown, ErrEnded, s.ended)}
	}
	s.pending = nil
}

// readLine reads up to a newline, and never more than limit bytes. The line is
// good until the next call.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, whole(line, err)
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		if long = append(long, line...); len(long) > limit {
			return nil, fmt.Errorf("a line of more than %d bytes", limit)
		}
	}
	return long, whole(long, err)
}

// whole tells a line that was cut off from an end between lines.
func whole(line []byte, err error) error {
	if errors.Is(err, io.EOF) && len(line) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
