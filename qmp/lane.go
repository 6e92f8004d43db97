package qmp

import (
	"context"
	"fmt"
	"sync/atomic"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// lane runs commands one at a time. Its goroutine, not the caller, waits for a
// monitor that hangs.
type lane struct {
	requests chan request // unbuffered: a request that nobody took was not sent
	busy     atomic.Pointer[string]
}

type request struct {
	name   string
	line   []byte
	answer chan answer // holds one, so that a caller may leave
}

type answer struct {
	out []byte
	err error
}

func newLane() *lane { return &lane{requests: make(chan request)} }

func (l *lane) serve(monitor goqemu.Monitor, done <-chan struct{}) {
	for {
		select {
		case r := <-l.requests:
			l.busy.Store(&r.name)
			out, err := monitor.Run(r.line)
			l.busy.Store(nil)
			r.answer <- answer{out, err}
		case <-done:
			return
		}
	}
}

func (l *lane) do(ctx context.Context, h *hub, name string, line []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	r := request{name: name, line: line, answer: make(chan answer, 1)}
	select {
	case l.requests <- r:
	case <-ctx.Done():
		return nil, l.notSent(ctx.Err())
	case <-h.done:
		return nil, fmt.Errorf("%w: %w", ErrNotSent, h.err)
	}
	select {
	case a := <-r.answer:
		return a.out, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	case <-h.done:
		return r.lateAnswer(h.err)
	}
}

func (l *lane) notSent(why error) error {
	if busy := l.busy.Load(); busy != nil {
		return fmt.Errorf("%w: %w (QEMU has not answered %s yet)", ErrNotSent, why, *busy)
	}
	return fmt.Errorf("%w: %w", ErrNotSent, why)
}

// lateAnswer prefers an answer that came before the end.
func (r request) lateAnswer(ended error) ([]byte, error) {
	select {
	case a := <-r.answer:
		return a.out, a.err
	default:
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ended)
	}
}
