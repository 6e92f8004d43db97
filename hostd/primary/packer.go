package primary

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/pack"
)

// newPacker remembers what the standby has of the machine in memory outside Go's
// heap: the system gives a page when it is first used and has all of it back at
// once, and garbage is collected no later because of it. free it when the packer
// is not used any more.
func (p *Session) newPacker() (packer *pack.Packer, free func(), err error) {
	size := min(uint64(p.o.Limits.DeltaCache), p.o.Stream.RAM)
	if size == 0 {
		return pack.New(nil), func() {}, nil
	}
	memory, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, fmt.Errorf("get %d bytes of memory for the delta cache: %w", size, err)
	}
	return pack.New(memory), func() { _ = unix.Munmap(memory) }, nil
}
