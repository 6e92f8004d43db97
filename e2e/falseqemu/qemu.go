package falseqemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

// qemu is the process.
type qemu struct {
	guest  Guest
	memory uint64 // bytes

	mu       sync.Mutex
	monitors []*monitor
	status   string // of the migration
	runState string

	capabilities map[string]bool
	agent        chan net.Conn // the channel, if there is one
	die          func()        // the process, or what stands for it
}

// Play is QEMU with these arguments. It ends with an error, or with the process
// that started this one.
func Play(args []string) error {
	go endWithParent()
	guest, err := Parse(option(args, "-append"))
	if err != nil {
		return err
	}
	if guest.Fault == Ends {
		return errors.New("qemu: -device unheard-of: no such device")
	}
	q := &qemu{guest: guest, agent: make(chan net.Conn, 1), status: "none", runState: "running", capabilities: map[string]bool{}, die: func() { os.Exit(1) }}
	if option(args, "-incoming") != "" {
		q.runState = "inmigrate"
	}
	if q.memory, err = makeRAM(option(args, "-object")); err != nil {
		return err
	}
	if err := q.listenAgent(options(args, "-chardev")); err != nil {
		return err
	}
	if q.runState == "running" {
		go printConsole(options(args, "-chardev"), guest.Prints)
		go printLines(os.Stderr, guest.Says)
	}
	return q.serve(options(args, "-qmp"))
}

// endWithParent leaves no orphan behind.
func endWithParent() {
	parent, err := unix.PidfdOpen(os.Getppid(), 0)
	if err == nil {
		for {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(parent), Events: unix.POLLIN}}, -1)
			if err != unix.EINTR {
				break
			}
		}
	}
	os.Exit(1)
}

func option(args []string, name string) string {
	if all := options(args, name); len(all) > 0 {
		return all[0]
	}
	return ""
}

func options(args []string, name string) (all []string) {
	for i := range max(len(args)-1, 0) {
		if args[i] == name {
			all = append(all, args[i+1])
		}
	}
	return all
}

// makeRAM makes the file of a memory-backend-file. Of one that is there already, and
// is not empty, QEMU takes what it has.
func makeRAM(object string) (memory uint64, err error) {
	var path string
	for _, field := range strings.Split(object, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "mem-path":
			path = value
		case "size":
			var mib uint64
			if _, err := fmt.Sscanf(value, "%dM", &mib); err != nil {
				return 0, fmt.Errorf("false QEMU: memory of %q: %w", value, err)
			}
			memory = mib << 20
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() > 0 {
		return memory, err
	}
	return memory, f.Truncate(int64(memory))
}

// serve the monitors until one fails.
func (q *qemu) serve(monitors []string) error {
	failed := make(chan error, len(monitors))
	for _, m := range monitors {
		path, _, _ := strings.Cut(strings.TrimPrefix(m, "unix:"), ",")
		l, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		go func() { failed <- q.accept(l) }()
	}
	return <-failed
}

// setStatus of the migration.
func (q *qemu) setStatus(status string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.status = status
}

func (q *qemu) setRunState(state string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.runState = state
}

// migrate connects to the daemon and plays the guest's fate.
func (q *qemu) migrate(socket string) {
	if q.guest.Fault == NeverConnects {
		return
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer conn.Close()
	defer q.fail()
	q.setStatus("active")
	switch q.guest.Fault {
	case Garbage:
		conn.Write(bytes.Repeat([]byte("garbage "), 1<<14))
	case Dies:
		fmt.Fprintln(os.Stderr, "qemu: died, so the test wants it")
		q.die()
	case HangsUp:
	default:
		if q.firstCopy(conn) {
			q.colo(conn)
		}
	}
}

// fail: a migration that ends before COLO lets its guest run.
func (q *qemu) fail() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.status == "active" || q.status == "device" {
		q.status, q.runState = "failed", "running"
	}
}

// firstCopy goes as far as COLO. The monitor, which is not answered while the big
// lock is held, is not part of the play.
func (q *qemu) firstCopy(conn net.Conn) bool {
	stream := firstCopy(q.guest, q.memory)
	if q.guest.Fault == StallsFirst {
		conn.Write(stream[:len(stream)/2])
		return stall(conn)
	}
	conn.Write(stream)
	q.stops()
	q.setStatus("device")
	if q.guest.Fault == StallsStopped {
		return stall(conn)
	}
	conn.Write(make([]byte, q.guest.Device))
	if q.returnPath() != (q.guest.Series >= 11) || q.guest.Series >= 11 && !hearReturnPathEnd(conn) {
		return stall(conn)
	}
	if q.guest.Fault == NeverEnters {
		return stall(conn)
	}
	q.setStatus("colo")
	if !hear(conn, colo.CheckpointReady) {
		return false
	}
	if q.guest.Fault == NeverResumes {
		return stall(conn)
	}
	q.runs()
	return q.guest.Fault != NeverAsks || stall(conn)
}

// stall says nothing more until the daemon hangs up.
func stall(conn net.Conn) bool {
	io.Copy(io.Discard, conn)
	return false
}

func (q *qemu) stops() {
	q.setRunState("finish-migrate")
	q.event("STOP")
}

func (q *qemu) runs() {
	q.setRunState("running")
	q.event("RESUME")
}

// colo takes one checkpoint after the other, as the daemon wants them.
func (q *qemu) colo(conn net.Conn) {
	stream := checkpoint(q.guest, q.memory)
	for n := 1; ; n++ {
		conn.Write(colo.AppendMessage(nil, colo.CheckpointRequest))
		if !hear(conn, colo.CheckpointReply) {
			return
		}
		q.stops()
		if q.guest.Fault == Tears {
			q.takeAgent()
			move(stream, q.guest, n, q.memory)
		}
		if n == q.guest.Hang {
			stall(conn)
			return
		}
		conn.Write(colo.AppendMessage(nil, colo.VMStateSend))
		if q.guest.Fault != BadCheckpoint {
			dirty(stream, q.guest, uint64(n))
		}
		conn.Write(stream)
		if !hear(conn, colo.VMStateReceived) || !hear(conn, colo.VMStateLoaded) {
			return
		}
		q.runs()
	}
}

func hearReturnPathEnd(conn net.Conn) bool {
	want := colo.AppendReturnPathEnd(nil)
	b := make([]byte, len(want))
	_, err := io.ReadFull(conn, b)
	return err == nil && bytes.Equal(b, want)
}

func hear(conn net.Conn, want colo.Message) bool {
	var b [4]byte
	_, err := io.ReadFull(conn, b[:])
	return err == nil && colo.Message(binary.BigEndian.Uint32(b[:])) == want
}
