package fifo

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestQueue compares with a plain list.
func TestQueue(t *testing.T) {
	var q Queue[int]
	var want []string
	random := rand.New(rand.NewPCG(5, 6))
	for n := range 20000 {
		q.Push(fmt.Append(nil, n), n)
		want = append(want, fmt.Sprint(n))
		gone := 0
		switch {
		case random.IntN(5000) == 0:
			gone = len(want)
		case n > 5000 && random.IntN(2) == 0:
			gone = random.IntN(min(5, len(want)) + 1)
		}
		q.Drop(gone)
		want = want[gone:]
		bytes := 0
		for i := range want[:min(3, len(want))] {
			if string(q.Data(i)) != want[i] || fmt.Sprint(*q.Tag(i)) != want[i] {
				t.Fatalf("behind %d others waits %q with tag %d, want %s", i, q.Data(i), *q.Tag(i), want[i])
			}
		}
		if n%100 == 0 {
			for _, w := range want {
				bytes += len(w)
			}
			if q.Bytes() != bytes {
				t.Fatalf("%d bytes, want %d", q.Bytes(), bytes)
			}
		}
		if q.Len() != len(want) {
			t.Fatalf("%d wait, want %d", q.Len(), len(want))
		}
	}
}

// TestAQueueGrowsNoFurther: what is as long as before needs no more memory.
func TestAQueueGrowsNoFurther(t *testing.T) {
	var q Queue[int]
	data := make([]byte, 100)
	turn := func() {
		for n := range 3000 {
			q.Push(data, n)
		}
		q.Drop(2000)
		q.Drop(q.Len())
	}
	turn()
	if n := testing.AllocsPerRun(10, turn); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
