package agenttest

import (
	"io"
	"sync"
)

// stream is one direction of a channel. Writing never waits, so that no frame is lost on a
// slow machine, as it may be in a virtio-serial port that nobody reads for a while.
type stream struct {
	mu     sync.Mutex
	more   sync.Cond
	data   []byte
	closed bool
}

func newStream() *stream {
	s := &stream{}
	s.more.L = &s.mu
	return s
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	s.data = append(s.data, p...)
	s.more.Signal()
	return len(p), nil
}

// read waits for bytes or the end.
func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.data) == 0 && !s.closed {
		s.more.Wait()
	}
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Broadcast()
}

// end is one end of a channel. Closing either one ends both.
type end struct{ in, out *stream }

func newChannel() (a, b *end) {
	in, out := newStream(), newStream()
	return &end{in, out}, &end{out, in}
}

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }

func (e *end) Close() error {
	e.in.close()
	e.out.close()
	return nil
}
