package main

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
)

// meter is what the two daemons have used so far.
type meter struct{ primary, standby lab.Usage }

func read(primary, standby *lab.Host) (m meter, err error) {
	if m.primary, err = primary.Usage(); err != nil {
		return m, err
	}
	m.standby, err = standby.Usage()
	return m, err
}

// costSince is what a round of checkpoints took.
func costSince(begin, end meter, round []pause) cost {
	c := cost{Checkpoints: len(round),
		Primary: end.primary.CPU - begin.primary.CPU, Standby: end.standby.CPU - begin.standby.CPU,
		PrimaryMemory: end.primary.Anonymous, StandbyMemory: end.standby.Anonymous}
	for _, p := range round {
		c.Dirty += p.Dirty
	}
	return c
}

// copyOnce is the processor time of passing so many bytes through a socket pair
// once: what no way of shipping pages can do without.
func copyOnce(bytes uint64) (time.Duration, error) {
	const piece = 64 << 10
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, fmt.Errorf("socket pair: %w", err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	from, to := make([]byte, 1<<20), make([]byte, 1<<20)
	before := processorTime()
	for at := 0; bytes > 0; at = (at + piece) % len(from) {
		n := int(min(bytes, piece))
		if n, err = unix.Write(fds[0], from[at:at+n]); err != nil {
			return 0, err
		}
		for got := 0; got < n; {
			k, err := unix.Read(fds[1], to[at+got:at+n])
			if err != nil {
				return 0, err
			}
			got += k
		}
		bytes -= uint64(n)
	}
	return processorTime() - before, nil
}

// processorTime of this process.
func processorTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
