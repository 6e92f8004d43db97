package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/console"
)

// What a QEMU prints, and its guest on the console, is kept in files by a process beside
// it. All that they need of each other is the pipe and the socket between them: the
// keeper reads whether a daemon is there or not, and ends with QEMU. QEMU drops what it
// prints once the keeper is gone, and never waits for a file.

// consoleDescriptor is QEMU's end of its console.
const consoleDescriptor = firstPassed

// ends are QEMU's, to be closed once it has them.
type ends struct {
	output  *os.File // what QEMU prints itself
	console *os.File // nil if the machine keeps no console
}

func (e ends) close() { closeAll([]*os.File{e.output, e.console}) }

// startKeeper begins QEMU's log anew, and starts the keeper of that and of the console.
func (m *Machine) startKeeper() (qemu ends, err error) {
	defer func() {
		if err != nil {
			qemu.close()
		}
	}()
	if qemu.output, err = m.newLog(); err != nil || m.o.Keep == nil && m.o.Spec.Console == "" {
		return qemu, err
	}
	if m.o.Keep == nil {
		return qemu, errors.New("nothing keeps its console in a file here: leave \"console\" out")
	}
	qemu.output.Close()
	files, inputs := []string{m.outputFile()}, []*os.File{nil}
	defer func() { closeAll(inputs) }()
	if inputs[0], qemu.output, err = os.Pipe(); err != nil {
		return qemu, fmt.Errorf("connect QEMU's log: %w", err)
	}
	if file := m.o.Spec.Console; file != "" {
		var keeper *os.File
		if keeper, qemu.console, err = consoleEnds(file); err != nil {
			return qemu, err
		}
		files, inputs = append(files, file), append(inputs, keeper)
	}
	if err := m.runKeeper(files, inputs); err != nil {
		return qemu, fmt.Errorf("start the keeper of what it prints: %w", err)
	}
	return qemu, nil
}

// newLog is an empty one, so that nothing in it is of an earlier QEMU. The keeper of that
// may have something left to write.
func (m *Machine) newLog() (*os.File, error) {
	m.awaitLastKeeper()
	for _, path := range []string{m.outputFile(), m.outputFile() + olderPart} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return os.OpenFile(m.outputFile(), os.O_RDWR|os.O_CREATE|os.O_EXCL, privateFile)
}

const (
	keeperPatience = 2 * time.Second
	keeperLook     = 5 * time.Millisecond
)

// awaitLastKeeper waits until no keeper writes QEMU's log any more, whoever started it. A
// disk that stalls keeps nobody.
func (m *Machine) awaitLastKeeper() {
	f, err := os.Open(m.outputFile())
	if err != nil {
		return // there is none, or newLog tells why
	}
	defer f.Close()
	for began := time.Now(); console.IsKept(f); time.Sleep(keeperLook) {
		if time.Since(began) > keeperPatience {
			m.warnOfDisk()
			return
		}
	}
}

func (m *Machine) warnOfDisk() {
	m.o.Log.Warn("the end of what QEMU and its guest print waits for a disk", "log", m.outputFile(), "console", m.o.Spec.Console)
}

// consoleEnds makes sure that the console's file can be written, and connects QEMU with
// its keeper.
func consoleEnds(path string) (keeper, qemu *os.File, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOCTTY, privateFile)
	if err != nil {
		return nil, nil, fmt.Errorf("open its console's file: %w", err)
	}
	file.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("connect its console: %w", err)
	}
	return os.NewFile(uintptr(pair[1]), "console"), os.NewFile(uintptr(pair[0]), "console"), nil
}

func (m *Machine) runKeeper(files []string, inputs []*os.File) error {
	command := m.o.Keep(files)
	command.ExtraFiles = inputs
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if command.Stderr == nil {
		command.Stderr = os.Stderr
	}
	if err := command.Start(); err != nil {
		return err
	}
	m.kept = make(chan struct{})
	go func() { // waited for by awaitKeeper
		awaitEnd(command.Process.Pid)
		if err := command.Wait(); err != nil {
			m.o.Log.Error("what QEMU and its guest print was not kept whole; the machine runs on", "files", files, "error", err)
		}
		close(m.kept)
	}()
	return nil
}

// awaitKeeper waits until what QEMU left is written. A disk that stalls keeps nobody:
// the keeper ends by itself.
func (m *Machine) awaitKeeper() {
	m.atKept.Do(func() {
		if m.kept == nil { // an earlier daemon's, or none
			m.awaitLastKeeper()
			return
		}
		select {
		case <-m.kept:
		case <-time.After(keeperPatience):
			m.warnOfDisk()
		}
	})
}
