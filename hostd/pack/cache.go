package pack

import (
	"math/bits"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const (
	ways     = 8 // slots of a set; their keys fill a cache line
	perSet   = ways * replica.PageSize
	blockLen = 11 // bits of replica.MaxBlocks
)

// cache holds pages as the standby has them. A page has one set of slots where it
// can be; the one that was used longest ago makes room.
type cache struct {
	keys  []uint64 // of the page in each slot, 0 if none
	used  []uint64 // the time of its last use, as clock counts
	pages []byte
	clock uint64
}

// newCache keeps pages in memory. What is in it does not matter, and a slot is
// not touched before it is used.
func newCache(memory []byte) cache {
	slots := len(memory) / perSet * ways
	return cache{keys: make([]uint64, slots), used: make([]uint64, slots), pages: memory}
}

// take gives the page's slot. If it is not known there, the slot holds something
// else, and the caller must make it what the standby has.
func (c *cache) take(block int, offset uint64) (page []byte, known bool) {
	key := (offset/replica.PageSize<<blockLen | uint64(block)) + 1
	first := c.set(key) * ways
	slot := first
	for i := first; i < first+ways; i++ {
		if c.keys[i] == key {
			slot = i
			break
		}
		if c.used[i] < c.used[slot] {
			slot = i
		}
	}
	c.clock++
	known = c.keys[slot] == key
	c.keys[slot], c.used[slot] = key, c.clock
	at := slot * replica.PageSize
	return c.pages[at : at+replica.PageSize], known
}

// set of a key. Neighbours are spread: a guest dirties many.
func (c *cache) set(key uint64) uint64 {
	const golden = 0x9e3779b97f4a7c15 // 2^64 by the golden ratio
	set, _ := bits.Mul64(key*golden, uint64(len(c.keys)/ways))
	return set
}
