// Package console keeps what a guest prints on its serial console, and what its QEMU
// prints, in files that are bounded. It is the work of a process of its own, beside each QEMU: it outlives the
// daemon, and a disk that stalls or is full stalls neither guest nor daemon.
package console

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	// Least is the smallest Options.Limit.
	Least = 64 << 10
	// waiting is how many bytes wait for a slow disk; what comes then is dropped.
	waiting = 1 << 20
	// patience with the reader of a pipe or a terminal.
	patience = 5 * time.Second
	// mode of files that are made here: what a guest prints is nobody else's.
	mode = 0o600
)

// Options of a console, or of what QEMU prints.
type Options struct {
	// Path of the file that is appended to. Older output is beside it, in Path.1.
	Path string
	// Limit in bytes of both files together, at least Least. What is no regular
	// file, a terminal for instance, has none.
	Limit int64
	Log   hclog.Logger
}

// Keep appends what comes from r to the file until r ends. It always reads on: what
// cannot be written is dropped, and its number of bytes is written in its place. An
// error says that output was lost; it is that of the last time.
func Keep(r io.Reader, o Options) error {
	b := &buffer{more: make(chan struct{}, 1)}
	k := &keeper{o: o, room: max(o.Limit, Least) / 2}
	var writer sync.WaitGroup
	writer.Go(func() { k.write(b) })
	var err error
	for in := make([]byte, 64<<10); err == nil; {
		var n int
		n, err = r.Read(in)
		b.put(in[:n])
	}
	b.end()
	writer.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) { // QEMU's end, either way
		err = nil
	}
	return errors.Join(err, k.lost)
}

// KeepAll keeps what comes from descriptors, the first and those after it, in a file
// each, until all end.
func KeepAll(first uintptr, paths []string, limit int64, log hclog.Logger) error {
	errs := make([]error, len(paths))
	var all sync.WaitGroup
	for i, path := range paths {
		fd := first + uintptr(i)
		unix.CloseOnExec(int(fd))
		in := os.NewFile(fd, path)
		if in == nil {
			errs[i] = fmt.Errorf("descriptor %d is not open; the daemon starts this command itself", fd)
			continue
		}
		all.Go(func() {
			defer in.Close()
			errs[i] = Keep(in, Options{Path: path, Limit: limit, Log: log})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// buffer is what has come and is not written yet.
type buffer struct {
	mu      sync.Mutex
	bytes   []byte
	dropped int
	ended   bool
	more    chan struct{} // has one when there is something to take
}

func (b *buffer) put(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), waiting-len(b.bytes))
	if b.dropped > 0 {
		n = 0 // nothing after a gap before the gap is told
	}
	b.bytes = append(b.bytes, p[:n]...)
	b.dropped += len(p) - n
	b.wake()
}

func (b *buffer) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.wake()
}

func (b *buffer) wake() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// take waits for something and returns all of it.
func (b *buffer) take() (bytes []byte, dropped int, ended bool) {
	<-b.more
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes, dropped = b.bytes, b.dropped
	b.bytes, b.dropped = nil, 0
	return bytes, dropped, b.ended
}

// keeper writes the file.
type keeper struct {
	o    Options
	room int64 // bytes in each of the two files
	file *os.File
	lost error // of the last write that failed
	gap  int   // bytes that were lost since the last one that was written
}

func (k *keeper) write(b *buffer) {
	defer k.close()
	k.lock()
	for ended := false; !ended; {
		var p []byte
		var dropped int
		p, dropped, ended = b.take()
		k.append(p)
		k.gap += dropped
	}
	k.append(nil) // tells of a gap at the end
}

// lock a file that is there at once: who begins it anew must not miss a keeper that has
// written nothing yet. What cannot be opened now is tried again with what is to be written.
func (k *keeper) lock() {
	if info, err := os.Stat(k.o.Path); err == nil && info.Mode().IsRegular() {
		k.file, _ = open(k.o.Path)
	}
}

// append to the file, after a word about what could not be written before.
func (k *keeper) append(p []byte) {
	if k.gap > 0 {
		note := fmt.Appendf(nil, "\n[%d bytes were lost here]\n", k.gap)
		if k.put(note) < len(note) {
			k.gap += len(p)
			return
		}
		k.gap = 0
	}
	k.gap += len(p) - k.put(p)
}

// put returns how many bytes were written: all, or those before an error.
func (k *keeper) put(p []byte) (done int) {
	for done < len(p) {
		n, err := k.some(p[done:])
		done += n
		if err == nil {
			continue
		}
		if k.lost == nil || k.lost.Error() != err.Error() {
			k.o.Log.Error("what a machine prints is not written; it runs on", "file", k.o.Path, "error", err)
		}
		k.lost = fmt.Errorf("write what a machine prints to %s: %w", k.o.Path, err)
		k.close() // opened anew for what comes next
		return done
	}
	return done
}

// some writes as much as the file has room for.
func (k *keeper) some(p []byte) (n int, err error) {
	if k.file == nil {
		if k.file, err = open(k.o.Path); err != nil {
			return 0, err
		}
	}
	info, err := k.file.Stat()
	if err != nil {
		return 0, err
	}
	if info.Mode().IsRegular() {
		left := k.room - info.Size()
		if left <= 0 {
			return 0, k.turnOver(info.Size())
		}
		p = p[:min(int64(len(p)), left)]
	}
	_ = k.file.SetWriteDeadline(time.Now().Add(patience)) // a regular file has none
	return k.file.Write(p)
}

// turnOver moves the file's content to the older file, and begins it anew. Where it
// cannot be moved it is lost: the bound holds.
func (k *keeper) turnOver(size int64) error {
	if err := k.keepOlder(size); errors.Is(err, errBegunAnew) {
		k.o.Log.Error("what a machine prints is lost: its file was begun anew for the next one", "file", k.o.Path)
	} else if err != nil {
		k.o.Log.Error("older part of what a machine printed lost", "file", k.o.Path, "error", err)
		os.Remove(k.o.Path + ".1")
	}
	return k.file.Truncate(0)
}

// errBegunAnew says that another file has the path: neither it nor what is beside it is ours.
var errBegunAnew = errors.New("the file was begun anew")

func (k *keeper) keepOlder(size int64) error {
	from, err := os.Open(k.o.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	if same, err := sameFile(from, k.file); err != nil || !same {
		return cmp.Or(err, errBegunAnew)
	}
	older := k.o.Path + ".1"
	if err := os.Remove(older); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(older, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	tail := min(size, k.room) // more is there only if somebody else has written it
	_, err = io.Copy(to, io.NewSectionReader(from, size-tail, tail))
	return errors.Join(err, to.Close())
}

func sameFile(a, b *os.File) (bool, error) {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB), errors.Join(errA, errB)
}

func (k *keeper) close() {
	if k.file != nil {
		k.file.Close()
		k.file = nil
	}
}

// open a console's file to append to, or make it. It waits for nobody: a pipe must
// have a reader. A regular file is locked as long as it is open, so that who begins it
// anew can tell that somebody has something to write still; two that write the same file
// on purpose are not kept from it.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
	if err != nil {
		return nil, err
	}
	if raw, err := f.SyscallConn(); err == nil { // Fd would make it wait
		l := unix.Flock_t{Type: unix.F_WRLCK}
		_ = raw.Control(func(fd uintptr) { _ = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &l) })
	}
	return f, nil
}

// IsKept reports that a keeper has something to write to a file still, or waits for it: it
// holds a lock (F_OFD_SETLK of fcntl(2)). None is taken here, which a keeper could meet.
// Where locks are not to be had, nothing is known of a keeper.
func IsKept(f *os.File) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l)
	return err == nil && l.Type != unix.F_UNLCK
}
