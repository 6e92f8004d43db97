package gate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestLane compares with a plain list of numbered frames.
func TestLane(t *testing.T) {
	var l lane
	type kept struct{ number, hand, log uint64 }
	var want kept // the number of the last frame, and how far either has come
	random := rand.New(rand.NewPCG(1, 2))
	room := make([][]byte, 0, 7)
	for number := uint64(1); number < 20000; number++ {
		l.push(number, []byte(fmt.Sprint(number)), 0, 0)
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
		l.drop(min(l.hand, l.log))
		if l.waiting() != int(number-want.hand) || l.unlogged() != int(number-want.log) {
			t.Fatalf("%d wait and %d are not logged, want %+v", l.waiting(), l.unlogged(), want)
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
		if text = string(bytes.Join(l.next(room, upto), nil)); text != next || l.ready(upto) != (next != "") {
			t.Fatalf("up to %d: %s, want %s", upto, text, next)
		}
		if got := l.waitingUpto(upto); got != int(min(number, upto)-want.hand) {
			t.Fatalf("%d wait up to %d, want %+v", got, upto, want)
		}
		if l.bytes() != bytesKept {
			t.Fatalf("%d bytes, want %d", l.bytes(), bytesKept)
		}
	}
}
