package primary

import (
	"context"
	"time"
)

// takenLimit bounds how long a checkpoint waits for a guest to take what was handed to it.
const takenLimit = time.Second

// awaitTaken lets the guest, which runs, take what was handed to it. Input is held. A
// packet for which a guest has no buffer waits inside QEMU, one for each port, and is
// dropped when the guest is stopped.
func (p *Session) awaitTaken(limit time.Duration) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	if err := p.o.Gate.AwaitTaken(ctx); err != nil {
		p.log.Debug("the guest is stopped while packets wait for it", "error", err)
	}
}
