package replica

import (
	"context"
	"errors"
	"fmt"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// ErrNothingToScrub says that there is no memory yet, or a guest that changes it.
var ErrNothingToScrub = errors.New("there is nothing to scrub")

// Scrubbed is what Scrub found.
type Scrubbed struct {
	Pages uint64 // compared
	Wrong uint64 // not what they should be
	First []Damage
}

// Damage is a page that is not what the primary has sent.
type Damage struct {
	Block  string
	Offset uint64 // bytes
}

const (
	scrubStep  = 64 // pages that an epoch may have to wait for
	mostDamage = 16 // pages that are named
)

// Scrub compares every page of the replica with the digest of what the primary has
// sent. It may be called at any time, while epochs are applied: those wait for some
// pages at a time.
func (r *Replica) Scrub(ctx context.Context) (found Scrubbed, err error) {
	for block := 0; ; block++ {
		for offset := uint64(0); ; offset += scrubStep * pageSize {
			if err := ctx.Err(); err != nil {
				return found, fmt.Errorf("scrub the replica: %w after %d pages", err, found.Pages)
			}
			more, err := r.scrub(&found, block, offset)
			if err != nil {
				return found, fmt.Errorf("scrub the replica: %w", err)
			}
			if !more {
				break
			}
		}
		if r.lastBlock(block) {
			return found, nil
		}
	}
}

func (r *Replica) lastBlock(block int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return block+1 >= len(r.blocks)
}

// scrub a few pages, and report whether there are more in the block.
func (r *Replica) scrub(found *Scrubbed, block int, offset uint64) (more bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running || block >= len(r.blocks) {
		return false, ErrNothingToScrub
	}
	b := r.blocks[block]
	end := min(offset+scrubStep*pageSize, b.Size/pageSize*pageSize)
	err = r.ram.use(func() error {
		for ; offset < end; offset += pageSize {
			found.Pages++
			if wire.PageSum(block, offset, b.data[offset:offset+pageSize]) == r.sums.Of(block, offset) {
				continue
			}
			if found.Wrong++; len(found.First) < mostDamage {
				found.First = append(found.First, Damage{b.Name, offset})
			}
		}
		return nil
	})
	return end < b.Size/pageSize*pageSize, err
}
