// Package traffic makes the test traffic that passes through a protected
// machine and judges what came of it.
//
// Endpoints run in network namespaces: a UDP probe client and server exchange
// numbered packets (package probe), a TCP client sends a long stream whose hash
// both ends compute. A Recorder keeps when each probe was sent and received, all
// by one clock. Judge is pure: from such a record it finds every loss,
// duplicate, reordering and rollback.
package traffic

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// In runs f on a thread of its own inside the named network namespace and
// returns when f does. Sockets that f opens stay in the namespace and may be
// used from any goroutine afterwards; goroutines that f starts are not inside.
// The empty name means the namespace of the process.
func In(namespace string, f func() error) error {
	if namespace == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine and its namespace
		// can leak into no other.
		runtime.LockOSThread()
		result <- enter(namespace, f)
	}()
	return <-result
}

func enter(namespace string, f func() error) error {
	ns, err := netns.GetFromName(namespace)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", namespace, err)
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", namespace, err)
	}
	return f()
}
