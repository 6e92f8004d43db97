// Package machine runs one QEMU process: its command line, its taps, its RAM
// file, its monitor and its end. The process is in a session of its own and
// outlives the daemon.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// Options of a Machine.
type Options struct {
	Spec   spec.Machine
	Binary string
	// Accel is kvm or tcg.
	Accel string
	// Sandbox is auto, on or off; off if empty.
	Sandbox string
	// User that QEMU runs as; nil is the daemon's.
	User      *User
	ExtraArgs []string
	// RunDir holds sockets, RAMDir the RAM file, StateDir what QEMU prints.
	RunDir, RAMDir, StateDir string
	// Incoming makes the machine wait for a takeover instead of booting.
	Incoming bool
	// Same lets Find fail where QEMU was started with other arguments.
	Same bool
	// Keep is the command that keeps what it reads in files: descriptor 3 to its end in
	// the first, 4 in the second. nil: no console, and a log without bounds.
	Keep func(files []string) *exec.Cmd
	Log  hclog.Logger
}

// Machine is a running QEMU. Its methods may be called concurrently.
type Machine struct {
	o       Options
	user    *User   // QEMU's; of one that was found its own, which a daemon before may have set
	process process // nil until it runs
	monitor *qmp.Client
	taps    []string // made here, removed with the machine
	threads []*found
	kept    chan struct{} // closed when QEMU's log and console are; nil if nobody keeps them
	atKept  sync.Once
	ram     *os.File // open while QEMU is started
	own     bool     // the files of this name are this machine's to remove
	ending  chan struct{}
	atEnd   sync.Once // closes ending
	exited  chan struct{}
	reason  error
}

func newMachine(o Options) *Machine {
	return &Machine{o: o, user: o.User, ending: make(chan struct{}), exited: make(chan struct{})}
}

// process is a QEMU, started here or found.
type process interface {
	Pid() int
	Kill() error
}

// Start makes the taps, starts QEMU and connects to its monitor.
func Start(ctx context.Context, o Options) (*Machine, error) {
	m := newMachine(o)
	if err := m.start(ctx); err != nil {
		m.Kill()
		m.cleanUp()
		return nil, fmt.Errorf("start machine %s: %w", o.Spec.Name, err)
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context) error {
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.spawn(ctx); err != nil {
		return err
	}
	monitor, err := m.connect(ctx)
	if err != nil {
		return err
	}
	m.monitor = monitor
	if err := m.checkRAM(ctx); err != nil {
		return err
	}
	m.watchThreads()
	return nil
}

func (m *Machine) prepare(ctx context.Context) error {
	for _, dir := range []string{m.o.RunDir, m.o.RAMDir, m.o.StateDir} {
		if err := PrivateDirectory(dir); err != nil {
			return err
		}
	}
	if err := m.mayOpen(); err != nil {
		return err
	}
	if peer, ok := listener(m.monitorSocket()); ok {
		return fmt.Errorf("its QEMU (process %d, 0 if it does not answer) is left from an earlier daemon, running and silent; end that process first", peer.Pid)
	}
	m.own = true // nobody uses what is left of an earlier QEMU
	for _, path := range m.sockets() {
		os.Remove(path)
	}
	if err := m.makeDirectory(); err != nil {
		return err
	}
	if err := m.makeRAM(ctx); err != nil {
		return err
	}
	for _, p := range m.o.Spec.Ports {
		created, err := ensureTap(p.Tap)
		if created {
			m.taps = append(m.taps, p.Tap)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) spawn(ctx context.Context) error {
	sandbox, err := m.sandbox(ctx)
	if err != nil {
		return err
	}
	prints, err := m.startKeeper()
	if err != nil {
		return err
	}
	defer prints.close()
	command := exec.Command(m.o.Binary, append(m.arguments(), sandbox...)...)
	command.Stdout, command.Stderr = prints.output, prints.output
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: m.user.credential()}
	if prints.console != nil {
		command.ExtraFiles = []*os.File{prints.console}
	}
	passed, err := m.pass()
	defer closeAll(passed)
	if err != nil {
		return err
	}
	command.ExtraFiles = append(command.ExtraFiles, passed...)
	if err := command.Start(); err != nil {
		return fmt.Errorf("run %s: %w", m.o.Binary, err)
	}
	m.process = child{command.Process}
	go func() { // waited for by Kill
		awaitEnd(command.Process.Pid)
		m.ended(command.Wait())
	}()
	return nil
}

// awaitEnd returns when a child has ended, which is still to be waited for: that
// alone would take a thread for as long as the child lives. Where it cannot tell
// it returns at once.
func awaitEnd(pid int) {
	if p, err := open(pid, 0); err == nil {
		p.wait()
		p.file.Close()
	}
}

// child is a QEMU that this daemon has started.
type child struct{ *os.Process }

func (c child) Pid() int { return c.Process.Pid }

// ended says that the process is gone.
func (m *Machine) ended(err error) {
	m.atEnd.Do(func() { close(m.ending) })
	m.awaitKeeper()
	m.reason = whyEnded(err, m.lastWords())
	close(m.exited)
}

var errPoweredOff = errors.New("with success: the guest has powered itself off, or QEMU was told to quit")

func whyEnded(err, words error) error {
	if err == nil {
		err = errPoweredOff
	}
	return fmt.Errorf("QEMU ended: %w", errors.Join(err, words))
}

// connect fails at once when QEMU ends before its monitor answers.
func (m *Machine) connect(ctx context.Context) (*qmp.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	go func() {
		select {
		case <-m.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	c, err := qmp.Dial(ctx, m.monitorSocket(), m.o.Log.Named("qmp"))
	if err != nil {
		select {
		case <-m.exited:
			return nil, m.reason
		default:
		}
	}
	return c, err
}

// lastWords is the end of what QEMU printed.
func (m *Machine) lastWords() error {
	const enough = 600
	words := end(m.outputFile(), enough+1)
	if len(words) <= enough {
		words = append(end(m.outputFile()+olderPart, enough+1-len(words)), words...)
	}
	text := strings.TrimSpace(string(words))
	if text == "" {
		return nil
	}
	if len(text) > enough {
		text = "…" + text[len(text)-enough:]
	}
	return errors.New(text)
}

// end of a file, as far as it can be read.
func end(path string, most int) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-int64(most)), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, int64(most)))
	return b
}

// Taps that were made here and are removed with the machine.
func (m *Machine) Taps() []string { return m.taps }

// Monitor of this QEMU.
func (m *Machine) Monitor() *qmp.Client { return m.monitor }

// Pid of the QEMU process.
func (m *Machine) Pid() int {
	if m.process == nil {
		return 0
	}
	return m.process.Pid()
}

// Ending is closed when QEMU's end is certain: the guest will not run again, and
// nothing more comes of it. The kernel may still have to take its memory apart,
// until Exited is closed.
func (m *Machine) Ending() <-chan struct{} { return m.ending }

// Exited is closed when the process has ended; Reason then says how.
func (m *Machine) Exited() <-chan struct{} { return m.exited }

// Reason of the process's end. Call it only after Exited is closed.
func (m *Machine) Reason() error { return m.reason }

// Kill ends QEMU at once and waits until it is gone.
func (m *Machine) Kill() {
	if m.process == nil {
		return
	}
	m.Signal()
	<-m.exited
}

// Signal ends QEMU and does not wait: one that waits for a disk may end late.
func (m *Machine) Signal() {
	if m.process == nil {
		return
	}
	if err := m.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.o.Log.Error("QEMU not killed", "pid", m.process.Pid(), "error", err)
	}
}

// Remove kills QEMU and removes its taps, its RAM file and its sockets.
func (m *Machine) Remove() {
	m.Kill()
	m.cleanUp()
}

func (m *Machine) cleanUp() {
	if m.monitor != nil {
		m.monitor.Close()
	}
	for _, tap := range m.taps {
		if err := removeTap(tap); err != nil {
			m.o.Log.Warn("tap not removed", "tap", tap, "error", err)
		}
	}
	m.closeRAM()
	if !m.own {
		return // a QEMU that was refused for another one, whose keeper goes on
	}
	m.awaitKeeper()
	for _, path := range append(m.sockets(), m.RAMFile()) {
		os.Remove(path)
	}
	os.RemoveAll(m.directory())
}

// RAMFile is the named file that holds the guest's memory.
func (m *Machine) RAMFile() string { return filepath.Join(m.o.RAMDir, m.o.Spec.Name+".ram") }

// AgentSocket is the host's end of the agent channel.
func (m *Machine) AgentSocket() string { return m.socket("agent") }

// COLOSocket is where QEMU connects to for checkpoints, by COLOURI.
func (m *Machine) COLOSocket() string { return m.shared("colo") }

// IncomingSocket is where a waiting QEMU takes the stream of a takeover, by
// IncomingURI.
func (m *Machine) IncomingSocket() string { return m.shared("incoming") }

// UrgentSocket is a second monitor, for commands that QEMU takes out of band.
func (m *Machine) UrgentSocket() string { return m.socket("oob") }

// MonitorSuffix follows the machine's name in that of its monitor's socket.
const MonitorSuffix = ".qmp"

func (m *Machine) monitorSocket() string { return m.socket("qmp") }

func (m *Machine) sockets() []string {
	return []string{m.monitorSocket(), m.UrgentSocket(), m.AgentSocket(), m.COLOSocket(), m.IncomingSocket()}
}

func (m *Machine) socket(kind string) string {
	return filepath.Join(m.o.RunDir, m.o.Spec.Name+"."+kind)
}

func (m *Machine) outputFile() string {
	return filepath.Join(m.o.StateDir, m.o.Spec.Name+".qemu.log")
}

// olderPart follows a file's name in that of what was in it before it was full.
const olderPart = ".1"

// listener is the process that listens on a unix socket, if one does; its number is 0 where it
// cannot be known, as of one whose queue is full. Only a socket that is not there, or
// that nobody has open, tells that there is none.
func listener(path string) (peer unix.Ucred, ok bool) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return peer, !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer, true
	}
	_ = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			peer = *c
		}
	})
	return peer, true
}

func mebibytes(bytes uint64) string { return strconv.FormatUint(bytes>>20, 10) + "M" }
