package lane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestLane compares with a plain list of numbered frames.
func TestLane(t *testing.T) {
	var l Lane
	type kept struct{ number, hand, log uint64 }
	var want kept // the number of the last frame, and how far either has come
	random := rand.New(rand.NewPCG(1, 2))
	room := make([][]byte, 0, 7)
	for number := uint64(1); number < 20000; number++ {
		l.Push([]byte(fmt.Sprint(number)), Arrival{Number: number})
		want.number = number
		some := func(from uint64) uint64 {
			if random.IntN(3) > 0 {
				return 0
			}
			if random.IntN(50) == 0 {
				return number - from
			}
			return random.Uint64N(min(5, number-from) + 1)
		}
		n, m := some(want.hand), some(want.log)
		l.hand, l.log = l.hand+int(n), l.log+int(m)
		want.hand, want.log = want.hand+n, want.log+m
		l.Trim(true)
		if l.Waiting() != int(number-want.hand) || l.Unlogged() != int(number-want.log) {
			t.Fatalf("%d wait and %d are not logged, want %+v", l.Waiting(), l.Unlogged(), want)
		}
		upto := want.hand + random.Uint64N(12)
		var next, text string
		bytesKept := 0
		for n := min(want.hand, want.log) + 1; n <= number; n++ {
			bytesKept += len(fmt.Sprint(n))
		}
		for n := want.hand + 1; n <= min(number, upto) && n <= want.hand+7; n++ {
			next += fmt.Sprint(n)
		}
		if text = string(bytes.Join(l.Batch(room, upto), nil)); text != next || l.Ready(upto) != (next != "") {
			t.Fatalf("up to %d: %s, want %s", upto, text, next)
		}
		if got := l.WaitingUpto(upto); got != int(min(number, upto)-want.hand) {
			t.Fatalf("%d wait up to %d, want %+v", got, upto, want)
		}
		if l.Bytes() != bytesKept {
			t.Fatalf("%d bytes, want %d", l.Bytes(), bytesKept)
		}
	}
}

// TestTheLogAndTheGuestDiffer: either may be ahead, and the log may begin anew.
func TestTheLogAndTheGuestDiffer(t *testing.T) {
	var l Lane
	for n := uint64(1); n <= 5; n++ {
		l.Push([]byte(fmt.Sprint("frame ", n)), Arrival{Number: n, At: 7, Slow: 3})
	}
	l.Logged()
	l.Logged()
	if number := l.Hand(1); number != 1 || l.Ahead() != -1 || l.Next() != (Arrival{2, 7, 3}) {
		t.Errorf("frame %d was handed in, which is %d ahead; next is %+v", number, l.Ahead(), l.Next())
	}
	l.Hand(2)
	l.Trim(true)
	if number, data := l.ToLog(); number != 3 || string(data) != "frame 3" || l.Ahead() != 1 {
		t.Errorf("the log gets frame %d, %q, %d behind", number, data, l.Ahead())
	}
	l.Trim(false)
	for number := uint64(101); l.Unlogged() > 0; number++ {
		if bytes := l.Renumber(number); bytes != len("frame 4") {
			t.Errorf("frame %d has %d bytes", number, bytes)
		}
	}
	l.LogWhatWaits()
	if number, data := l.ToLog(); number != 101 || string(data) != "frame 4" || l.Waiting() != 2 {
		t.Errorf("numbered anew, the log gets frame %d, %q; %d wait", number, data, l.Waiting())
	}
	l.Clear()
	if l.Waiting() != 0 || l.Unlogged() != 0 || l.Bytes() != 0 {
		t.Errorf("%d wait, %d are not logged, %d bytes", l.Waiting(), l.Unlogged(), l.Bytes())
	}
}
