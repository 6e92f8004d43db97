package lab

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fates of n frames that come a millisecond apart: when each is due after it
// came, -1 if it is lost.
func fates(s Shape, port string, n int) (late []time.Duration) {
	shaper := newShaper(s, port)
	for i := range n {
		now := time.UnixMilli(int64(i))
		due, lost := shaper.frame(now)
		if lost {
			late = append(late, -1)
		} else {
			late = append(late, due.Sub(now))
		}
	}
	return late
}

// overtaken counts the frames that are due after a later one.
func overtaken(late []time.Duration) (n int) {
	earliest := time.Duration(math.MaxInt64)
	for i := len(late) - 1; i >= 0; i-- {
		due := late[i] + time.Duration(i)*time.Millisecond
		if late[i] < 0 {
			continue
		}
		if due > earliest {
			n++
		}
		earliest = min(earliest, due)
	}
	return n
}

func TestShaper(t *testing.T) {
	const frames = 10000
	const ms = time.Millisecond
	for _, c := range []struct {
		name             string
		shape            Shape
		least, most      time.Duration
		lost, overtaking float64 // of 1, give or take a tenth
	}{
		{"delay", Shape{Delay: 5 * ms}, 5 * ms, 5 * ms, 0, 0},
		{"jitter", Shape{Delay: 5 * ms, Jitter: 10 * ms}, 5 * ms, 15 * ms, 0, 0},
		{"loss", Shape{Loss: 0.1}, 0, 0, 0.1, 0},
		{"reorder", Shape{Reorder: 0.1}, 0, 2 * ms, 0, 0.1},
		{"reorder by more", Shape{Reorder: 0.1, Late: 20 * ms, Delay: ms}, ms, 21 * ms, 0, 0.1},
		{"everything", Shape{Delay: ms, Jitter: ms, Reorder: 0.2, Late: 5 * ms, Loss: 0.5}, ms, 7 * ms, 0.5, 0.1},
		{"nothing left", Shape{Loss: 1}, 0, 0, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			late := fates(c.shape, "a-link", frames)
			var lost int
			for i, l := range late {
				switch {
				case l == -1:
					lost++
				case l < c.least || l > c.most:
					t.Fatalf("frame %d is late by %v, want %v to %v", i, l, c.least, c.most)
				}
			}
			near := func(what string, got int, want float64) {
				if share := float64(got) / frames; math.Abs(share-want) > 0.1*want {
					t.Errorf("%s: %v of all, want %v", what, share, want)
				}
			}
			near("lost", lost, c.lost)
			near("overtaken", overtaken(late), c.overtaking)
		})
	}
}

func TestShaperRepeatsItself(t *testing.T) {
	shape := Shape{Jitter: time.Second, Reorder: 0.5, Loss: 0.5, Seed: 7}
	first := fates(shape, "a-link", 1000)
	if !slices.Equal(first, fates(shape, "a-link", 1000)) {
		t.Error("the same seed, another sequence")
	}
	if slices.Equal(first, fates(shape, "b-link", 1000)) {
		t.Error("two cables, the same sequence")
	}
	shape.Seed++
	if slices.Equal(first, fates(shape, "a-link", 1000)) {
		t.Error("another seed, the same sequence")
	}
}

func TestOnWay(t *testing.T) {
	w := newOnWay()
	at := time.UnixMilli(0)
	for _, f := range []struct {
		due  int
		name string
	}{{3, "last"}, {1, "first"}, {2, "x"}, {2, "y"}, {2, "z"}} {
		w.put(at.Add(time.Duration(f.due)), []byte(f.name))
	}
	if frame, wait := w.take(at); frame != nil || wait != 1 {
		t.Errorf("got %q, wait %v", frame, wait)
	}
	for _, want := range []string{"first", "x", "y", "z", "last"} {
		if frame, _ := w.take(at.Add(3)); string(frame) != want {
			t.Errorf("got %q, want %q", frame, want)
		}
	}
	if frame, wait := w.take(at); frame != nil || wait < time.Minute || w.bytes != 0 {
		t.Errorf("an empty queue has %q, wait %v, %d bytes", frame, wait, w.bytes)
	}
	for range relayFrames + 1 {
		w.put(at, []byte("x"))
	}
	if n := len(w.frames); n != relayFrames {
		t.Errorf("%d frames, want no more than %d", n, relayFrames)
	}
}

func TestShapeIsChecked(t *testing.T) {
	s := &Segment{Name: "x"}
	for _, shape := range []Shape{{Delay: -1}, {Jitter: -1}, {Late: -1}, {Loss: 1.1}, {Loss: -0.1}, {Reorder: math.NaN()}} {
		if err := s.Shape(shape); err == nil {
			t.Errorf("%+v was accepted", shape)
		}
	}
}

// TestShape sends numbered frames over a shaped link, twice alike.
func TestShape(t *testing.T) {
	l := newLab(t, Options{})
	shape := Shape{Delay: time.Millisecond, Reorder: 0.2, Loss: 0.2, Seed: 3}
	const frames = 500
	first := numbersOver(t, l, shape, frames)
	if lost := frames - len(first); lost < frames/10 || lost > frames/3 {
		t.Errorf("%d of %d frames lost", lost, frames)
	}
	if slices.IsSorted(first) {
		t.Error("the frames came in order")
	}
	second := numbersOver(t, l, shape, frames)
	slices.Sort(first)
	slices.Sort(second)
	if !slices.Equal(first, second) {
		t.Error("the same seed lost other frames")
	}
	if err := l.Link.Restore(); err != nil {
		t.Fatal(err)
	}
	if all := numbersOver(t, l, Shape{}, frames); len(all) != frames || !slices.IsSorted(all) {
		t.Errorf("restored, %d of %d frames came", len(all), frames)
	}
}

// numbersOver sends numbered frames from host a to b over the shaped link and
// returns the numbers that came, in their order.
func numbersOver(t *testing.T, l *Lab, shape Shape, frames int) (numbers []uint32) {
	t.Helper()
	if err := l.Link.Shape(shape); err != nil {
		t.Fatal(err)
	}
	in, err := openPacket(l.Hosts[1].Space, linkName, relayBuffer, socketOption{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1})
	if err != nil {
		t.Fatal(err)
	}
	defer in.file.Close()
	var numbered [][]byte
	for n := range frames {
		frame := testFrame(MAC{2, 1}, 60)
		binary.BigEndian.PutUint32(frame[14:], uint32(n))
		numbered = append(numbered, frame)
	}
	sendFrame(t, l.Hosts[0].Space, linkName, numbered...)
	// What is lost cannot be waited for, only what comes after everything.
	shaper := newShaper(shape, l.Hosts[0].Link.Port)
	expected := 0
	for range frames {
		if _, lost := shaper.frame(time.Now()); !lost {
			expected++
		}
	}
	in.file.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 2048)
	for len(numbers) < expected {
		n, err := in.file.Read(buf)
		if err != nil {
			t.Fatalf("%d frames of %d came: %v", len(numbers), expected, err)
		}
		if n == 60 && buf[12] == 0x88 && buf[13] == 0xb5 {
			numbers = append(numbers, binary.BigEndian.Uint32(buf[14:]))
		}
	}
	return numbers
}
