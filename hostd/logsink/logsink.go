// Package logsink is the way of a log out of a process that must not wait for its
// reader: a pipe that is full, a terminal that was stopped, a disk that hangs.
package logsink

import (
	"io"
	"sync"
	"time"
)

// waiting is how many bytes wait for a slow reader, besides as many that are being
// written; what comes then is dropped.
const waiting = 1 << 20

// Sink takes lines at once and writes them by and by. Lines that have no room are
// dropped and counted, and so are those whose write fails; the count is told where
// they would have been.
type Sink struct {
	out  io.Writer
	note func(lost int) []byte

	mu     sync.Mutex
	lines  [][]byte
	bytes  int
	lost   int // since the last line that was taken
	ended  bool
	more   chan struct{} // has one when there is something to take
	closed chan struct{} // once all is written
}

// New sink that writes to out. note makes the line that tells how many were lost.
// Close it.
func New(out io.Writer, note func(lost int) []byte) *Sink {
	s := &Sink{out: out, note: note, more: make(chan struct{}, 1), closed: make(chan struct{})}
	go s.write()
	return s
}

// Write takes a line, or several that belong together. It never waits and never fails.
func (s *Sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Nothing comes after a gap before the gap is told.
	if s.ended || s.lost > 0 || s.bytes+len(p) > waiting {
		s.lost++
	} else {
		s.lines = append(s.lines, append([]byte(nil), p...))
		s.bytes += len(p)
	}
	s.wake()
	return len(p), nil
}

// Close waits until everything is written, for the limit at the most: whoever does not
// read holds up no end of a process. What is written to the sink later is lost.
func (s *Sink) Close(limit time.Duration) {
	s.mu.Lock()
	s.ended = true
	s.wake()
	s.mu.Unlock()
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-s.closed:
	case <-over.C:
	}
}

func (s *Sink) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *Sink) take() (lines [][]byte, lost int, ended bool) {
	<-s.more
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, lost = s.lines, s.lost
	s.lines, s.bytes, s.lost = nil, 0, 0
	return lines, lost, s.ended
}

func (s *Sink) write() {
	defer close(s.closed)
	gap := 0
	for ended := false; !ended; {
		var lines [][]byte
		var lost int
		lines, lost, ended = s.take()
		for _, line := range lines {
			gap = s.put(line, gap)
		}
		gap += lost
	}
	if gap > 0 {
		_, _ = s.out.Write(s.note(gap))
	}
}

// put a line after a word about the lines before it that were lost. It returns how many
// are lost now.
func (s *Sink) put(line []byte, gap int) int {
	if gap > 0 {
		if _, err := s.out.Write(s.note(gap)); err != nil {
			return gap + 1
		}
	}
	if _, err := s.out.Write(line); err != nil {
		return 1
	}
	return 0
}
