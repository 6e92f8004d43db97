package daemon

import (
	"errors"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// sendBatch ships the pages of one batch; epoch 0 is the first copy.
func (p *protection) sendBatch(b *capture.Batch, epoch uint64) error {
	p.pages.Reset()
	data := b.Data
	for _, page := range b.Pages {
		if page.Zero {
			if err := p.pages.Zero(page.Block, page.Offset); err != nil {
				return err
			}
			continue
		}
		if err := p.pages.Page(page.Block, page.Offset, data[:replica.PageSize]); err != nil {
			return err
		}
		data = data[replica.PageSize:]
	}
	if p.pages.Len() == 0 {
		return nil
	}
	return p.link.Send(p.header(replica.TypePages, epoch), p.pages.Parts()...)
}

func (p *protection) sendDevice(e *capture.Epoch) error {
	for rest := e.Device; len(rest) > 0; {
		n := min(len(rest), replica.MaxPayload)
		if err := p.link.Send(p.header(replica.TypeDevice, e.Number), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// sendOutput ships what the guest sent in the epoch: a standby that takes over
// sends what may not have left here.
func (p *protection) sendOutput(o *gate.Output) error {
	p.frames.Reset()
	for i := range o.Len() {
		f := o.At(i)
		err := p.frames.Frame(uint16(f.Port), f.Data)
		if errors.Is(err, replica.ErrFull) {
			if err = p.flushOutput(o.Epoch); err == nil {
				err = p.frames.Frame(uint16(f.Port), f.Data)
			}
		}
		if err != nil {
			return err
		}
	}
	return p.flushOutput(o.Epoch)
}

func (p *protection) flushOutput(epoch uint64) error {
	if p.frames.Len() == 0 {
		return nil
	}
	err := p.link.Send(p.header(replica.TypeOutput, epoch), p.frames.Payload())
	p.frames.Reset()
	return err
}

// sendAddresses tells the standby the guest's addresses when more are known.
func (p *protection) sendAddresses() error {
	known := p.g.gate.Addresses()
	if len(known) == p.addresses {
		return nil
	}
	p.addresses = len(known)
	var list replica.Addresses
	for _, a := range known {
		list.List = append(list.List, replica.Address{Port: uint16(a.Port), MAC: p.g.mac(a.Port), IP: a.Addr})
	}
	return p.link.Send(p.header(replica.TypeAddresses, 0), list.Append(nil))
}
