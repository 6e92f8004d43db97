package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	wordSize  = 8 // bytes; deltas are in whole words
	pageWords = PageSize / wordSize
	runHead   = 2   // words to keep, words that follow
	longest   = 255 // words that one number of a run can say

	// What is alike is passed over in steps of so many bytes, each a quarter of
	// the one before.
	most, least = 1024, 64
)

// appendDelta appends what turns base into page, both of PageSize bytes, to
// dst: runs of a u8 number of words to keep, a u8 number of words that are new,
// and those words. What follows the last run is kept. Nothing is appended if
// the pages are the same. A delta has new bytes and no differences, so applying
// it twice is as good as once.
//
// It gives up when it has appended PageSize bytes or more: the page itself is
// shorter.
func appendDelta(dst, base, page []byte) []byte {
	base, page = base[:PageSize], page[:PageSize]
	start, end := len(dst), 0 // bytes of page done with
	for len(dst)-start < PageSize {
		at := differs(base, page, end)
		if at == PageSize {
			break
		}
		dst = appendKept(dst, (at-end)/wordSize)
		end = agrees(base, page, at)
		dst = append(append(dst, byte((end-at)/wordSize)), page[at:end]...)
	}
	return dst
}

// appendKept appends the first number of a run, after runs without new words
// where there are more to keep than it can say.
func appendKept(dst []byte, words int) []byte {
	for ; words > longest; words -= longest {
		dst = append(dst, longest, 0)
	}
	return append(dst, byte(words))
}

// differs is where the first word from at on is that is not the same in both,
// or PageSize. The next change is often near; where it is not, it is far.
func differs(a, b []byte, at int) int {
	for near := min(at+least, PageSize); at < near; at += wordSize {
		if word(a, at) != word(b, at) {
			return at
		}
	}
	for step := most; step >= least; step /= 4 {
		for at+step <= PageSize && bytes.Equal(a[at:at+step], b[at:at+step]) {
			at += step
		}
	}
	for at < PageSize && word(a, at) == word(b, at) {
		at += wordSize
	}
	return at
}

// agrees is where the words that differ at at end: at one that is the same, at
// the end of the page, or where a run can get no longer.
func agrees(a, b []byte, at int) int {
	end := min(at+longest*wordSize, PageSize)
	for at += wordSize; at < end && word(a, at) != word(b, at); {
		at += wordSize
	}
	return at
}

func word(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// checkDelta says whether a delta stays within its page and ends with a run.
func checkDelta(delta []byte) error {
	for words := 0; len(delta) > 0; {
		if len(delta) < runHead {
			return fmt.Errorf("%w: half a run", ErrMalformed)
		}
		keep, follow := int(delta[0]), int(delta[1])
		words += keep + follow
		delta = delta[runHead:]
		if words > pageWords || follow*wordSize > len(delta) {
			return fmt.Errorf("%w: a run to word %d with %d bytes left", ErrMalformed, words, len(delta))
		}
		delta = delta[follow*wordSize:]
	}
	return nil
}

// applyDelta changes page, which is what the delta was made against. The delta
// has been checked.
func applyDelta(page, delta []byte) {
	for len(delta) > 0 {
		page = page[int(delta[0])*wordSize:]
		n := int(delta[1]) * wordSize
		copy(page[:n], delta[runHead:])
		page, delta = page[n:], delta[runHead+n:]
	}
}
