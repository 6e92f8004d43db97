package primary

import (
	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// beginSums begins the digest of what the standby is sent.
func (p *Session) beginSums(blocks []replica.Block) { p.sums = replica.NewSums(blocks) }

// sum adds pages as they were read from QEMU. It is done before anything is made of
// them, so that whatever goes wrong on the way to the standby's memory shows there,
// and while the guest runs.
func (p *Session) sum(b *capture.Batch) error {
	for page, data := range b.All() {
		var sum uint64
		if !page.Zero {
			sum = replica.PageSum(page.Block, page.Offset, data)
		}
		if err := p.sums.Set(page.Block, page.Offset, sum); err != nil {
			return err
		}
	}
	return nil
}

// sendDigest tells the standby what it must have after the epoch.
func (p *Session) sendDigest(e *capture.Epoch) error {
	d := replica.Digest{Memory: p.sums.Total(), Device: replica.DeviceSum(e.Device)}
	p.message = d.Append(p.message[:0])
	return p.link.Send(p.header(replica.TypeDigest, e.Number), p.message)
}
