package primary

import (
	"context"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/compat"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// writesNoDisk refuses a guest that can write to a disk, which extra-args may have given
// it as well: what it writes is not replicated.
func (p *Session) writesNoDisk() error {
	ctx, cancel := context.WithTimeout(p.ctx, PrepareLimit)
	defer cancel()
	all, err := p.o.QEMU.Monitor().QueryBlock(ctx)
	if err != nil {
		return fmt.Errorf("ask QEMU for its disks: %w", err)
	}
	for _, b := range all {
		if b.Writable() {
			return fmt.Errorf("machine %s has a writable disk (%s), whose writes are not replicated yet; make it read-only in extra-args", p.o.Machine.Name, b.Inserted.File)
		}
	}
	return nil
}

func (p *Session) connect() error {
	ctx, cancel := context.WithTimeout(p.ctx, PrepareLimit)
	defer cancel()
	// A standby's heartbeats alone do not make it one.
	stop := context.AfterFunc(ctx, func() {
		if l := p.Link(); l != nil {
			l.Close(fmt.Errorf("wait for the standby to prepare: %w", context.Cause(ctx)))
		}
	})
	defer stop()
	text, err := p.specification(ctx) // first: the standby waits for it no longer than for a greeting
	if err != nil {
		return err
	}
	if err := p.dial(ctx); err != nil {
		return err
	}
	if err := p.hello(); err != nil {
		return err
	}
	return p.prepare(text)
}

// specification for the standby, with the machine type by its version.
func (p *Session) specification(ctx context.Context) ([]byte, error) {
	s, err := compat.ByVersion(ctx, p.o.QEMU.Monitor(), p.o.Machine)
	if err != nil {
		p.log.Debug("QEMU does not tell its machine type; the standby takes its own", "machine-type", s.Machine, "error", err)
	}
	return s.Marshal()
}

func (p *Session) dial(ctx context.Context) error {
	conn, err := p.o.Dial(ctx)
	if err != nil {
		return err
	}
	l := link.New(conn, link.Options{Heartbeat: time.Duration(p.o.Detection.Heartbeat), Limit: p.limit(), Log: p.log.Named("link")})
	p.linking.Lock()
	p.link = l
	p.linking.Unlock()
	p.wg.Go(func() { l.Watch(p.ctx) })
	return nil
}

// hello names the machine to the standby and agrees on the protocol.
func (p *Session) hello() error {
	hello := replica.Hello{Protocol: replica.ProtocolNewest, Host: p.o.Host, Machine: p.o.Machine.Name}
	if err := p.link.Send(replica.Header{Type: replica.TypeHello}, hello.Append(nil)); err != nil {
		return err
	}
	answer, err := p.expect(replica.TypeWelcome)
	if err != nil {
		return err
	}
	welcome, err := replica.DecodeWelcome(answer)
	if err != nil {
		return err
	}
	if welcome.Protocol < replica.ProtocolOldest || welcome.Protocol > replica.ProtocolNewest {
		return compat.UnknownProtocol(welcome.Host, welcome.Protocol)
	}
	return compat.Limits(p.limit(), time.Duration(welcome.Limit), welcome.Host)
}

// prepare has the standby start a QEMU of the specification that waits.
func (p *Session) prepare(specification []byte) error {
	prepare := replica.Prepare{Spec: specification, Generation: p.o.State.Generation()}
	if err := p.link.Send(replica.Header{Type: replica.TypePrepare, Generation: prepare.Generation}, prepare.Append(nil)); err != nil {
		return err
	}
	if err := p.checkCards(); err != nil {
		return err
	}
	_, err := p.expect(replica.TypePrepared)
	return err
}

// checkCards compares what the standby has for the ports with what this host has.
func (p *Session) checkCards() error {
	payload, err := p.expect(replica.TypeCards)
	if err != nil {
		return err
	}
	there, err := replica.DecodeCards(payload)
	if err != nil {
		return err
	}
	ports := p.o.Machine.Ports
	here, err := compat.Offers(p.ctx, p.o.QEMU.Monitor(), ports, p.o.Gate.MTU)
	if err != nil {
		return err
	}
	return compat.Cards(ports, here, there, p.o.Peer)
}

func (p *Session) expect(want replica.Type) ([]byte, error) {
	h, payload, err := p.link.Receive()
	if err != nil {
		return nil, err
	}
	if h.Type == replica.TypeReject {
		reject, err := replica.DecodeReject(payload)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the standby refuses: %s", reject.Reason)
	}
	if h.Type != want {
		return nil, fmt.Errorf("the standby sent %v instead of %v", h.Type, want)
	}
	return payload, nil
}
