package primary

import (
	"errors"
	"slices"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// sendEpochPages ships the pages of an epoch.
func (p *Session) sendEpochPages(e *capture.Epoch) error {
	for _, b := range e.Batches() {
		if err := p.sum(b); err != nil {
			return err
		}
		if err := p.sendPacked(b, e.Number); err != nil {
			return err
		}
	}
	return nil
}

// sendPacked ships one batch as what is new to the standby. Every error ends the
// protection, so that the standby has always got what the packer takes it to have.
func (p *Session) sendPacked(b *capture.Batch, epoch uint64) error {
	p.packer.Reset()
	if err := fill(p.packer, b); err != nil {
		return err
	}
	return p.sendPayload(replica.TypePacked, epoch, p.packer.Batch())
}

func (p *Session) sendPayload(t replica.Type, epoch uint64, b *replica.PackedBatch) error {
	parts := p.compressed(b)
	started := time.Now()
	if err := p.count(p.header(t, epoch), parts...); err != nil {
		return err
	}
	p.rates = p.rates.Sent(length(parts), time.Since(started))
	return nil
}

// compressed is the batch's payload, compressed if the configuration, or what it
// has cost lately, is for it.
func (p *Session) compressed(b *replica.PackedBatch) [][]byte {
	compress := p.o.Compression.Compress
	if compress == config.CompressOff || compress == config.CompressAuto && !p.rates.Worth() {
		p.rates = p.rates.Withheld()
		return b.Parts()
	}
	plain, started := length(b.Parts()), time.Now()
	parts := b.Compressed()
	p.rates = p.rates.Compressed(plain-length(parts), time.Since(started))
	return parts
}

func length(parts [][]byte) (bytes int) {
	for _, p := range parts {
		bytes += len(p)
	}
	return bytes
}

// count sends a frame of memory or device state and adds it up.
func (p *Session) count(h replica.Header, parts ...[]byte) error {
	p.wire += uint64(replica.HeaderSize + length(parts))
	return p.link.Send(h, parts...)
}

// pages of a message that is being made.
type pages interface {
	Page(block int, offset uint64, data []byte) error
	Zero(block int, offset uint64) error
}

// fill a message with a batch's pages.
func fill(m pages, b *capture.Batch) (err error) {
	for page, data := range b.All() {
		if page.Zero {
			err = m.Zero(page.Block, page.Offset)
		} else {
			err = m.Page(page.Block, page.Offset, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sendBatch ships a batch of the first copy: pages as they are.
func (p *Session) sendBatch(b *capture.Batch) error {
	p.pages.Reset()
	if err := fill(&p.pages, b); err != nil {
		return err
	}
	if p.pages.Len() == 0 {
		return nil
	}
	return p.count(p.header(replica.TypePages, 0), p.pages.Parts()...)
}

// sendDevice ships the device state, as what has changed in it where pages are.
func (p *Session) sendDevice(e *capture.Epoch) error {
	if p.o.Limits.DeltaCache > 0 {
		return p.packer.Device(e.Device, func(b *replica.PackedBatch) error {
			return p.sendPayload(replica.TypePackedDevice, e.Number, b)
		})
	}
	for rest := e.Device; len(rest) > 0; {
		n := min(len(rest), replica.MaxPayload)
		if err := p.count(p.header(replica.TypeDevice, e.Number), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// sendOutput ships what the guest sent in the epoch: a standby that takes over
// sends what may not have left here.
func (p *Session) sendOutput(o *gate.Output) error {
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

func (p *Session) flushOutput(epoch uint64) error {
	if p.frames.Len() == 0 {
		return nil
	}
	err := p.link.Send(p.header(replica.TypeOutput, epoch), p.frames.Payload())
	p.frames.Reset()
	return err
}

// sendAddresses tells the standby the guest's addresses when others are known.
func (p *Session) sendAddresses() error {
	known := p.o.Gate.Addresses()
	if slices.Equal(known, p.addresses) {
		return nil
	}
	p.addresses = known
	var list replica.Addresses
	for _, a := range known {
		if a.MAC == ([6]byte{}) {
			a.MAC = p.mac(a.Port)
		}
		list.List = append(list.List, replica.Address{Port: uint16(a.Port), MAC: a.MAC, IP: a.Addr, Router: uint8(a.Router), Tags: a.Tags})
	}
	return p.link.Send(p.header(replica.TypeAddresses, 0), list.Append(nil))
}

// mac of a port, by its place in the specification.
func (p *Session) mac(port int) [6]byte {
	if port < 0 || port >= len(p.o.Machine.Ports) {
		return [6]byte{}
	}
	return p.o.Machine.Ports[port].MAC
}
