package replica

import (
	"bytes"
	"testing"
)

func TestPageSums(t *testing.T) {
	page := bytes.Repeat([]byte{7}, PageSize)
	sum := PageSum(0, PageSize, page)
	if sum != PageSum(0, PageSize, bytes.Clone(page)) {
		t.Error("the same page has two digests")
	}
	seen := map[uint64]string{sum: "the page"}
	differ := func(what string, other uint64) {
		if before, ok := seen[other]; ok {
			t.Errorf("%s has the digest of %s", what, before)
		}
		seen[other] = what
	}
	differ("another offset", PageSum(0, 2*PageSize, page))
	differ("another block", PageSum(1, PageSize, page))
	for bit := range 8 * PageSize {
		page[bit/8] ^= 1 << (bit % 8)
		if PageSum(0, PageSize, page) == sum {
			t.Fatalf("bit %d makes no difference", bit)
		}
		page[bit/8] ^= 1 << (bit % 8)
	}
	for _, block := range []int{0, 9} {
		if s := PageSum(block, 5*PageSize, make([]byte, PageSize)); s != 0 {
			t.Errorf("a page of zeros has %#x", s)
		}
	}
}

// TestSumsDoNotDependOnOrder, nor on how often a page came.
func TestSumsDoNotDependOnOrder(t *testing.T) {
	blocks := []Block{{"a", 4 * PageSize}, {"b", PageSize}}
	one, two := NewSums(blocks), NewSums(blocks)
	set := func(s *Sums, block int, offset, sum uint64) {
		t.Helper()
		if err := s.Set(block, offset, sum); err != nil {
			t.Fatal(err)
		}
	}
	set(one, 0, PageSize, 11)
	set(one, 1, 0, 12)
	set(two, 1, 0, 99)
	set(two, 1, 0, 12)
	set(two, 0, PageSize, 11)
	if one.Total() != two.Total() || one.Total() == 0 || one.Of(1, 0) != 12 {
		t.Errorf("%#x and %#x", one.Total(), two.Total())
	}
	set(two, 0, PageSize, 0)
	set(two, 1, 0, 0)
	if two.Total() != 0 {
		t.Error("memory of zeros has a digest")
	}
	for _, bad := range []struct {
		block  int
		offset uint64
	}{{-1, 0}, {2, 0}, {0, 4 * PageSize}, {1, 1 << 63}} {
		if one.Set(bad.block, bad.offset, 1) == nil {
			t.Errorf("%+v exists", bad)
		}
	}
}

// TestPageSumIsWhatItWas: both hosts of a pair must know the same digest.
func TestPageSumIsWhatItWas(t *testing.T) {
	page := make([]byte, PageSize)
	for i := range page {
		page[i] = byte(i)
	}
	if got := PageSum(1, 3*PageSize, page); got != wantSum {
		t.Errorf("%#x", got)
	}
	if got := DeviceSum([]byte("device")); got != wantDevice {
		t.Errorf("%#x", got)
	}
}

const wantSum, wantDevice = 0xa29985571a5c63a5, 0x8e90db38f95fcc56

func BenchmarkPageSum(b *testing.B) {
	page := bytes.Repeat([]byte{1, 2, 3, 4}, PageSize/4)
	b.SetBytes(PageSize)
	for b.Loop() {
		PageSum(0, 4096, page)
	}
}
