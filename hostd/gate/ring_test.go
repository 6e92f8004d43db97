package gate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestRing compares with a plain list of numbered frames.
func TestRing(t *testing.T) {
	var r ring
	var want []uint64
	random := rand.New(rand.NewPCG(1, 2))
	for next := uint64(1); next < 20000; next++ {
		r.push(int(next%3), []byte(fmt.Sprint(next)))
		want = append(want, next)
		if random.IntN(3) == 0 {
			n := random.IntN(len(want) + 1)
			if random.IntN(50) == 0 {
				n = len(want)
			}
			want = want[n:]
			r.drop(next - uint64(len(want)))
		}
		if r.len() != len(want) || r.last() != next {
			t.Fatalf("%d frames up to %d, want %d up to %d", r.len(), r.last(), len(want), next)
		}
		if len(want) == 0 {
			continue
		}
		for _, number := range []uint64{want[0], want[len(want)-1]} {
			if f := r.at(number); string(f.Data) != fmt.Sprint(number) || f.Port != int(number%3) {
				t.Fatalf("frame %d is %q of port %d", number, f.Data, f.Port)
			}
		}
	}
}

// TestRunsAreOfOnePort: a run ends at the port's last frame, at the bound and
// where the batch is full.
func TestRunsAreOfOnePort(t *testing.T) {
	var r ring
	for n, port := range []int{0, 0, 1, 1, 1, 0} {
		r.push(port, []byte{byte(n + 1)})
	}
	r.drop(1)
	room := make([][]byte, 0, 2)
	for _, c := range []struct {
		from, to uint64
		want     string
	}{{2, 6, "\x02"}, {3, 6, "\x03\x04"}, {5, 6, "\x05"}, {3, 3, "\x03"}, {6, 6, "\x06"}} {
		if got := string(bytes.Join(r.run(room, c.from, c.to), nil)); got != c.want {
			t.Errorf("from %d to %d: %x, want %x", c.from, c.to, got, c.want)
		}
	}
}
