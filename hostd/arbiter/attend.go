package arbiter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Attend is one life of a member in a process of its own, under a Keeper: until
// the context or the input ends, which is the Keeper's, or the member does. It
// says on output what the Keeper has to know. The process must end when Attend
// has returned: what a failed member leaves behind ends only with it.
func Attend(ctx context.Context, o MemberOptions, input io.Reader, output io.Writer) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() { // it ends with the process
		io.Copy(io.Discard, input)
		end()
	}()
	err := attend(ctx, o, output)
	if err != nil {
		told, failed := json.Marshal(failureOf(err))
		if failed == nil {
			fmt.Fprintf(output, "%s%s\n", saidFailed, told)
		}
	}
	return err
}

func attend(ctx context.Context, o MemberOptions, output io.Writer) error {
	m, err := begin(ctx, o)
	if err != nil || m == nil {
		return err
	}
	ready := m.Ready()
	for {
		select {
		case <-ready:
			ready = nil
			fmt.Fprintln(output, saidReady)
		case <-ctx.Done():
			return m.Close()
		case err := <-m.Err():
			if errors.Is(err, ErrNoRoom) {
				return errors.Join(err, m.Close())
			}
			return err // nothing of it may go on
		}
	}
}

// begin is StartMember, left behind when the context ends: a disk that hangs
// does not hold up the end. It returns nil then.
func begin(ctx context.Context, o MemberOptions) (*Member, error) {
	type outcome struct {
		member *Member
		err    error
	}
	begun := make(chan outcome, 1)
	go func() {
		m, err := StartMember(o)
		begun <- outcome{m, err}
	}()
	select {
	case b := <-begun:
		return b.member, b.err
	case <-ctx.Done():
		return nil, nil
	}
}
