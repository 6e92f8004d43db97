package lane

import (
	"math/rand/v2"
	"testing"
)

// TestFlight compares with a plain list.
func TestFlight(t *testing.T) {
	var f Flight
	f.Start(1 << 40)
	total, number := f.Settled(), uint64(0)
	var in []uint64
	random := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		for range random.IntN(min(9, FlightRoom-len(in)+1)) {
			f.Add(number)
			in = append(in, number)
			number++
		}
		n := random.IntN(min(9, len(in)+1))
		total += uint64(n)
		if others := f.Settle(total); others != 0 {
			t.Fatalf("%d frames are others'", others)
		}
		if n > 0 && f.Taken() != in[n-1] {
			t.Fatalf("the last that was taken is %d, want %d", f.Taken(), in[n-1])
		}
		if in = in[n:]; f.Len() != len(in) {
			t.Fatalf("%d frames in the tap, want %d", f.Len(), len(in))
		}
	}
	if others := f.Settle(total + uint64(len(in)) + 5); others != 5 || f.Len() != 0 {
		t.Fatalf("%d frames are others', %d in the tap; want 5 and 0", others, f.Len())
	}
}
