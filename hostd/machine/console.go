package machine

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// consoleDescriptor is where a QEMU and the keeper of its console have their ends of
// the socket between them. It is all that they need of each other: the keeper reads
// whether a daemon is there or not, and ends with QEMU. QEMU drops its console once
// the keeper is gone, and never waits for a file.
const consoleDescriptor = firstPassed

// startConsole starts the console's keeper and returns QEMU's end; nil if the machine
// keeps no console.
func (m *Machine) startConsole() (qemu *os.File, err error) {
	if m.o.Spec.Console == "" {
		return nil, nil
	}
	if m.o.KeepConsole == nil {
		return nil, errors.New("nothing keeps its console in a file here: leave \"console\" out")
	}
	file, err := os.OpenFile(m.o.Spec.Console, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOCTTY, privateFile)
	if err != nil {
		return nil, fmt.Errorf("open its console's file: %w", err)
	}
	file.Close()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect its console: %w", err)
	}
	qemu = os.NewFile(uintptr(ends[0]), "console")
	keeper := os.NewFile(uintptr(ends[1]), "console")
	defer keeper.Close()
	if err := m.runKeeper(keeper); err != nil {
		qemu.Close()
		return nil, fmt.Errorf("start its console's keeper: %w", err)
	}
	return qemu, nil
}

func (m *Machine) runKeeper(end *os.File) error {
	command := m.o.KeepConsole(m.o.Spec.Console)
	command.ExtraFiles = []*os.File{end}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if command.Stderr == nil {
		command.Stderr = os.Stderr
	}
	if err := command.Start(); err != nil {
		return err
	}
	m.kept = make(chan struct{})
	go func() { // waited for by awaitConsole
		awaitEnd(command.Process.Pid)
		if err := command.Wait(); err != nil {
			m.o.Log.Error("the console was not kept whole; the machine runs on", "file", m.o.Spec.Console, "error", err)
		}
		close(m.kept)
	}()
	return nil
}

// awaitConsole waits until the keeper has written what QEMU left. A disk that stalls
// keeps nobody: the keeper ends by itself.
func (m *Machine) awaitConsole() {
	if m.kept == nil {
		return
	}
	const patience = 2 * time.Second
	select {
	case <-m.kept:
	case <-time.After(patience):
		m.o.Log.Warn("the end of the console waits for its disk", "file", m.o.Spec.Console)
	}
}
