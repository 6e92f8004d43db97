package capture_test

import (
	"os"
	"reflect"
	"slices"

	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is far more than any of these runs takes: reaching it is a hang.
const limit = 2 * time.Minute

// seeded takes the first copy as a standby would.
type seeded struct {
	machine string
	blocks  []colo.Block
	pages   map[capture.Page]byte // the last content's first byte
	batches int
	stills  int
}

func (s *seeded) Blocks(machine string, _ colo.Section, blocks []colo.Block) error {
	s.machine, s.blocks = machine, blocks
	return nil
}

func (s *seeded) Pages(b *capture.Batch) error {
	s.batches++
	for p, data := range b.All() {
		var first byte
		if !p.Zero {
			first = data[0]
		}
		p.Zero = false
		s.pages[p] = first
	}
	return nil
}

// run drives a capture against a script until something fails, and reports
// what was taken. It ends whatever the script does.
func run(t *testing.T, q *falseQEMU, checkpoints int, each func(*capture.Capture, *capture.Epoch)) (*seeded, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := q.client(t)
	defer client.Close()
	defer q.played.Wait()
	s := &seeded{pages: map[capture.Page]byte{}}
	c, err := capture.Start(ctx, capture.Options{Monitor: client, Listen: listenIn(t.TempDir()),
		Delay: time.Millisecond, Limits: colo.Limits{Blocks: 8, RAM: 1 << 20, DeviceState: q.device},
		Patience: limit / 2, RAMFile: q.ram, RAMBlock: "ram0", Log: hclog.NewNullLogger()})
	if err != nil {
		return s, err
	}
	defer c.Close()
	err = drive(ctx, c, s, checkpoints, each)
	if ctx.Err() != nil {
		t.Errorf("hangs: %v", err)
	}
	return s, err
}

func drive(ctx context.Context, c *capture.Capture, s *seeded, checkpoints int, each func(*capture.Capture, *capture.Epoch)) error {
	if err := c.Seed(ctx, s, func() { s.stills++ }); err != nil {
		return err
	}
	e := new(capture.Epoch)
	for n := range checkpoints {
		if err := c.AwaitRequest(); err != nil {
			return err
		}
		if err := c.Stop(e, uint64(n+1)); err != nil {
			return err
		}
		for _, step := range []func() error{
			func() error { return c.Copy(e) }, c.LetGo, func() error { return c.CopyDevices(e) }, func() error { return c.AwaitResume(ctx, e) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		if each != nil {
			each(c, e)
		}
	}
	return nil
}

func TestEpochsOfAGoodQEMU(t *testing.T) {
	for _, series := range []int{10, 11} {
		t.Run(fmt.Sprint(series), func(t *testing.T) { epochsOfAGoodQEMU(t, series) })
	}
}

func epochsOfAGoodQEMU(t *testing.T, series int) {
	const checkpoints = 5
	taken := 0
	q := newFalseQEMU(good(checkpoints))
	q.series = series
	s, err := run(t, q, checkpoints, func(c *capture.Capture, e *capture.Epoch) {
		taken++
		if e.Number != uint64(taken) || e.Pages != 2 || e.ZeroPages != 1 || len(e.Device) != deviceBytes || e.Bytes() != pageSize+deviceBytes {
			t.Errorf("epoch %d: %d pages, %d of them zero, %d bytes of devices", e.Number, e.Pages, e.ZeroPages, len(e.Device))
		}
		b := e.Batches()[0]
		want := []capture.Page{{Offset: 2 * pageSize}, {Offset: 3 * pageSize, Zero: true}}
		if len(e.Batches()) != 1 || b.Pages[0] != want[0] || b.Pages[1] != want[1] || b.Data[0] != 0xc2 || len(b.Data) != pageSize {
			t.Errorf("epoch %d: %v", e.Number, b.Pages)
		}
		if e.Times.Resumed.Before(e.Times.Reply) || e.Times.Pause < 0 {
			t.Errorf("epoch %d: %+v", e.Number, e.Times)
		}
		if c.Machine() != "pc-1" || len(c.Blocks()) != 2 {
			t.Errorf("machine %q, blocks %v", c.Machine(), c.Blocks())
		}
	})
	if err != nil || taken != checkpoints || q.captured != nil {
		t.Fatalf("%d epochs, %v, %v", taken, err, q.captured)
	}
	if s.machine != "pc-1" || len(s.pages) != mainPages+1 || s.stills != 1 {
		t.Errorf("machine %q, %d pages, asked %d times for a still point", s.machine, len(s.pages), s.stills)
	}
	if s.pages[capture.Page{}] != 0xa1 || s.pages[capture.Page{Block: 1}] != 0xb1 {
		t.Error("the last content of a page does not stand")
	}
}

// TestPagesOfTheLastPartAreReadAgain: what QEMU sent with the guest stopped is in
// the first epoch once more, as it is then, and in no later one.
func TestPagesOfTheLastPartAreReadAgain(t *testing.T) {
	const checkpoints = 3
	q := newFalseQEMU(good(checkpoints))
	q.ram = filepath.Join(t.TempDir(), "ram")
	memory := make([]byte, mainPages*pageSize)
	memory[0] = 0xf1
	if err := os.WriteFile(q.ram, memory, 0o600); err != nil {
		t.Fatal(err)
	}
	var pages [][]capture.Page
	s, err := run(t, q, checkpoints, func(_ *capture.Capture, e *capture.Epoch) {
		b := e.Batches()[0]
		pages = append(pages, append([]capture.Page(nil), b.Pages...))
		if e.Number == 1 && (len(b.Data) != 2*pageSize || b.Data[pageSize] != 0xf1) {
			t.Error("the first epoch does not have the page as it is now")
		}
	})
	if err != nil || s.pages[capture.Page{}] != 0xa1 {
		t.Fatal(err)
	}
	own := []capture.Page{{Offset: 2 * pageSize}, {Offset: 3 * pageSize, Zero: true}}
	want := [][]capture.Page{append(slices.Clone(own), capture.Page{}), own, own}
	if !reflect.DeepEqual(pages, want) {
		t.Errorf("got %v, want %v", pages, want)
	}
}

// TestPagesCannotBeReadAgain: an epoch that may be wrong is not taken.
func TestPagesCannotBeReadAgain(t *testing.T) {
	q := newFalseQEMU(good(1))
	q.ram = filepath.Join(t.TempDir(), "none")
	if _, err := run(t, q, 1, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// script is the whole of what the false QEMU sends in one checkpoint's run.
func script() (structure []int, length int) {
	first, rest := firstCopy(10), checkpoint(10, deviceBytes)
	structure = append(structure, first.structure...)
	at := first.Len() + 100
	for i := range 8 { // request and VMSTATE_SEND
		structure = append(structure, at+i)
	}
	at += 8
	for _, i := range rest.structure {
		structure = append(structure, at+i)
	}
	return structure, at + rest.Len()
}

// impatient is how long a spoiled QEMU waits for an answer. On a slow host
// that ends a run earlier, which is an error all the same.
const impatient = 50 * time.Millisecond

func TestStreamsThatEnd(t *testing.T) {
	structure, length := script()
	for _, at := range append(structure, length-1, length-deviceBytes) {
		if at == 0 {
			continue
		}
		q := newFalseQEMU(func(p *peer) error {
			p.cut, p.patience = at, impatient
			return good(1)(p)
		})
		if _, err := run(t, q, 1, nil); err == nil {
			t.Errorf("cut at byte %d of %d: no error", at, length)
		} else if len(err.Error()) < 20 {
			t.Errorf("cut at byte %d: the error says little: %v", at, err)
		}
	}
}

func TestStreamsWithATurnedBit(t *testing.T) {
	structure, length := script()
	failed := 0
	for i, at := range structure {
		q := newFalseQEMU(func(p *peer) error {
			p.flip, p.bit, p.patience = at, uint(i%8), impatient
			return good(1)(p)
		})
		_, err := run(t, q, 1, func(_ *capture.Capture, e *capture.Epoch) {
			if len(e.Device) > 1<<10 || e.Pages > 2*(mainPages+1) {
				t.Errorf("byte %d: an epoch of %d pages and %d bytes of devices", at, e.Pages, len(e.Device))
			}
		})
		if err != nil {
			failed++
		}
	}
	if failed < len(structure)/2 {
		t.Errorf("%d of %d turned bits were noticed (of %d bytes)", failed, len(structure), length)
	}
}

func TestBrokenCheckpoints(t *testing.T) {
	endless := func() []byte {
		s := new(stream)
		s.part(2)
		for range 4 * (mainPages + 1) {
			s.zero("ram0", 0)
		}
		s.footer()
		s.put(0)
		return s.Bytes()
	}
	spoil := func(f func(s *stream)) []byte { s := new(stream); f(s); return s.Bytes() }
	cases := map[string]struct {
		content []byte
		want    error
		text    string
	}{
		"more device state than allowed":    {checkpoint(10, 2<<10).Bytes(), colo.ErrLimit, "device state of epoch 1"},
		"a page that comes again and again": {endless(), capture.ErrTooMany, "epoch 1"},
		"a page outside of memory":          {spoil(func(s *stream) { s.part(2); s.page("ram0", mainPages*pageSize, 1) }), colo.ErrMalformed, "0x8000"},
		"a page of an unknown block":        {spoil(func(s *stream) { s.part(2); s.page("vram", 0, 1) }), colo.ErrMalformed, "vram"},
		"a second block list":               {spoil(func(s *stream) { s.part(2); s.u64(pageSize | 4); s.name("x"); s.u64(pageSize) }), colo.ErrMalformed, "block list"},
		"another section":                   {spoil(func(s *stream) { s.put(1); s.u32(9); s.name("vfio"); s.u64(0) }), colo.ErrMalformed, "vfio"},
		"loaded instead of a size":          {spoil(func(s *stream) { s.put(0); s.u32(uint32(colo.VMStateLoaded)) }), colo.ErrMalformed, "vmstate-loaded instead of vmstate-size"},
		"no message at all":                 {spoil(func(s *stream) { s.put(0); s.u32(77) }), colo.ErrMalformed, "77"},
		"nothing":                           {nil, io.ErrUnexpectedEOF, "dirty pages of epoch 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			q := newFalseQEMU(func(p *peer) error {
				if err := p.seed(); err != nil {
					return err
				}
				if c.content == nil { // the daemon waits for more, and so does QEMU
					p.patience = time.Second
				}
				return p.checkpoint(c.content)
			})
			_, err := run(t, q, 1, nil)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %v with %q", err, c.want, c.text)
			}
		})
	}
}

func TestMessagesOutOfOrder(t *testing.T) {
	cases := map[string]struct {
		play func(*peer) error
		text string
	}{
		"no request": {func(p *peer) error { return p.message(colo.VMStateSend) }, "vmstate-send instead of checkpoint-request"},
		"two requests": {func(p *peer) error {
			return errors.Join(p.message(colo.CheckpointRequest), p.message(colo.CheckpointRequest), untilClosed(p))
		}, "checkpoint-request instead of vmstate-send"},
		"a hang-up in COLO":           {func(*peer) error { return nil }, "EOF"},
		"a hang-up after the request": {func(p *peer) error { return p.message(colo.CheckpointRequest) }, ""},
		"a hang-up instead of a resume": {func(p *peer) error {
			if err := errors.Join(p.message(colo.CheckpointRequest), p.expect(colo.CheckpointReply),
				p.message(colo.VMStateSend), p.send(checkpoint(10, deviceBytes).Bytes())); err != nil {
				return err
			}
			return p.expect(colo.VMStateReceived, colo.VMStateLoaded)
		}, "closed the connection"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			q := newFalseQEMU(func(p *peer) error {
				if err := p.seed(); err != nil {
					return err
				}
				return c.play(p)
			})
			_, err := run(t, q, 1, nil)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %q", err, c.text)
			}
		})
	}
}

func TestSeedsThatDoNotReachCOLO(t *testing.T) {
	cases := map[string]struct {
		play func(*peer) error
		text string
	}{
		"the migration completes": {func(p *peer) error { p.q.enter("completed"); return p.expect(colo.CheckpointReady) }, `"completed" instead of "colo"`},
		"the migration fails":     {func(p *peer) error { p.q.enter("failed"); return p.expect(colo.CheckpointReady) }, "so the test wants it"},
		"a hang-up before COLO":   {func(p *peer) error { return nil }, "closed the connection"},
		"a hang-up after the first message": {func(p *peer) error {
			p.q.enter("colo")
			return p.expect(colo.CheckpointReady)
		}, "closed the connection"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			q := newFalseQEMU(func(p *peer) error {
				if err := p.send(firstCopy(10).Bytes()); err != nil {
					return err
				}
				return c.play(p)
			})
			_, err := run(t, q, 1, nil)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %q", err, c.text)
			}
		})
	}
}

// start makes a capture for tests that call its methods one by one.
func start(t *testing.T, ctx context.Context, q *falseQEMU, patience time.Duration) *capture.Capture {
	t.Helper()
	client := q.client(t)
	t.Cleanup(func() { client.Close() })
	c, err := capture.Start(ctx, capture.Options{Monitor: client, Listen: listenIn(t.TempDir()),
		Limits: colo.DefaultLimits(), Patience: patience, Log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); q.played.Wait() })
	return c
}

// untilClosed is the rest of a script that says nothing more.
func untilClosed(p *peer) error {
	_, err := io.Copy(io.Discard, p.Conn)
	return err
}

func TestASeedEndsWithItsContext(t *testing.T) {
	flood := func(p *peer) error {
		b := make([]byte, 1<<16)
		for {
			if _, err := p.Write(b); err != nil {
				return err
			}
		}
	}
	for name, play := range map[string]func(*peer) error{"silence": untilClosed, "a flood": flood} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			c := start(t, ctx, newFalseQEMU(func(p *peer) error {
				if err := p.send(firstCopy(10).Bytes()); err != nil {
					return err
				}
				return play(p)
			}), limit)
			err := c.Seed(ctx, &seeded{pages: map[capture.Page]byte{}}, func() {})
			if err == nil || time.Since(deadlineOf(ctx)) > limit {
				t.Errorf("%v, %v late", err, time.Since(deadlineOf(ctx)))
			}
		})
	}
}

func deadlineOf(ctx context.Context) time.Time { at, _ := ctx.Deadline(); return at }

func TestAStalledCheckpointEnds(t *testing.T) {
	c := start(t, t.Context(), newFalseQEMU(func(p *peer) error {
		if err := p.seed(); err != nil {
			return err
		}
		if err := p.message(colo.CheckpointRequest); err != nil {
			return err
		}
		return untilClosed(p)
	}), 50*time.Millisecond)
	err := drive(t.Context(), c, &seeded{pages: map[capture.Page]byte{}}, 1, nil)
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a time-out", err)
	}
}

// TestLeave frees a guest that is stopped in a checkpoint.
func TestLeave(t *testing.T) {
	q := newFalseQEMU(func(p *peer) error {
		if err := p.seed(); err != nil {
			return err
		}
		if err := p.message(colo.CheckpointRequest); err != nil {
			return err
		}
		if err := p.expect(colo.CheckpointReply); err != nil {
			return err
		}
		p.q.say("STOP", false)
		if err := p.message(colo.VMStateSend); err != nil {
			return err
		}
		return untilClosed(p)
	})
	c := start(t, t.Context(), q, limit)
	if err := c.Seed(t.Context(), &seeded{pages: map[capture.Page]byte{}}, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.AwaitRequest(), c.Stop(new(capture.Epoch), 1)); err != nil {
		t.Fatal(err)
	}
	copied := make(chan error, 1)
	go func() { copied <- c.Copy(new(capture.Epoch)) }()
	if err := c.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-copied; err == nil {
		t.Error("the copy went on")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.left || !q.running {
		t.Error("the guest was not freed")
	}
}

func listenIn(dir string) func() (capture.Listener, error) {
	return func() (capture.Listener, error) {
		return capture.ListenUnix(filepath.Join(dir, "colo"), "unix:"+filepath.Join(dir, "colo"))
	}
}
