package falseqemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

// description is what ends a takeover's stream: its type, length and text.
const description = "\x06\x00\x00\x00\x02{}"

// listenIncoming does what migrate-incoming does before it answers.
func (q *qemu) listenIncoming(uri string) error {
	l, err := net.Listen("unix", strings.TrimPrefix(uri, "unix:"))
	if err != nil {
		return err
	}
	go func() {
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		q.takeOver(conn)
	}()
	return nil
}

// takeOver runs the guest from a stream. As QEMU does, it ends the process where
// that cannot be done.
func (q *qemu) takeOver(stream io.Reader) {
	err := readIncoming(stream, q.memory)
	if q.guest.Fault == FailsTakeover {
		err = errors.New("this guest cannot be taken over, so the test wants it")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "qemu: load of migration failed:", err)
		q.die()
		return
	}
	if q.guest.Fault == SleepsOn {
		return
	}
	q.setStatus("completed")
	q.setRunState("running")
	q.event("RESUME")
}

// readIncoming wants a whole stream of a machine with so many bytes of memory,
// which is in place already.
func readIncoming(stream io.Reader, memory uint64) error {
	r := colo.NewReader(stream, colo.DefaultLimits())
	h, err := r.Header()
	if err != nil {
		return err
	}
	if len(h.Capabilities) != 1 || h.Capabilities[0] != "x-ignore-shared" {
		return fmt.Errorf("capabilities %q", h.Capabilities)
	}
	found := &taken{memory: memory}
	if err := r.Initial(found); err != nil {
		return err
	}
	if !found.listed {
		return errors.New("no RAM block")
	}
	return readDevices(r)
}

// readDevices reads up to the end of the stream, one byte at a time: it is short.
func readDevices(r *colo.Reader) error {
	var rest []byte
	for {
		more, err := r.Device(rest, 1)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
		rest = more
	}
	if !strings.HasSuffix(string(rest), description) {
		return fmt.Errorf("a stream that was cut after %d bytes of devices", len(rest))
	}
	return nil
}

// taken checks the memory of a takeover's stream.
type taken struct {
	memory uint64
	listed bool
}

func (t *taken) Blocks(blocks []colo.Block) error {
	if len(blocks) != 1 || blocks[0] != (colo.Block{Name: block, Size: t.memory}) {
		return fmt.Errorf("RAM blocks %v, want %q of %d bytes", blocks, block, t.memory)
	}
	t.listed = true
	return nil
}

func (t *taken) Page(_ int, offset uint64) ([]byte, error) {
	return nil, fmt.Errorf("page %#x of memory that is in place already", offset)
}

func (t *taken) Zero(_ int, offset uint64) error {
	_, err := t.Page(0, offset)
	return err
}
