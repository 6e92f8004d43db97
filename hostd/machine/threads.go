package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// enoughThreads: of two threads that a signal ends at least one is not the last
// that lets go of the process's memory, so that it ends at once.
const enoughThreads = 2

// watchThreads lets Ending be known from the first end of a thread that QEMU has
// for as long as it lives. It takes PIDFD_THREAD (Linux 6.9) and a QEMU that names
// its threads; without them Ending is known together with Exited.
func (m *Machine) watchThreads() {
	threads, err := lastingThreads(m.Pid())
	if err != nil {
		m.o.Log.Debug("QEMU's threads are not watched", "pid", m.Pid(), "error", err)
	}
	m.threads = threads
	for _, t := range threads {
		go func() { // ends with the process, or by Release
			if t.wait() == nil {
				m.atEnd.Do(func() { close(m.ending) })
			}
			t.file.Close()
		}()
	}
}

// lastingThreads opens threads of a QEMU that last as long as it does.
func lastingThreads(pid int) (threads []*found, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil || tid == pid || !lasting(task) {
			continue
		}
		t, err := open(tid, unix.PIDFD_THREAD)
		if err != nil {
			return threads, fmt.Errorf("open thread %d: %w", tid, err)
		}
		if !lasting(task) { // its number may have become another's before it was opened
			t.file.Close()
			continue
		}
		if threads = append(threads, t); len(threads) == enoughThreads {
			break
		}
	}
	return threads, nil
}

// lasting reports that a task of QEMU is a virtual CPU or an event loop
// (accel/tcg/tcg-accel-ops-mttcg.c, accel/kvm/kvm-accel-ops.c, iothread.c). Its
// workers come and go.
func lasting(task string) bool {
	name, err := os.ReadFile(filepath.Join(task, "comm"))
	return err == nil && (strings.HasPrefix(string(name), "CPU ") || strings.HasPrefix(string(name), "IO "))
}
