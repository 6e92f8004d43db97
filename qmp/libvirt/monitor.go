// Package libvirt is a go-qemu Monitor over libvirt's connection to a domain,
// for package qmp. It exists beside go-qemu's LibvirtRPCMonitor because
// go-libvirt drops QEMU events without details, STOP and RESUME among them:
// here libvirt's lifecycle events stand for these two.
package libvirt

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// Connection is what a Monitor needs of a connected *golibvirt.Libvirt.
type Connection interface {
	Run(domain string, command []byte) ([]byte, error)
	SubscribeQEMUEvents(ctx context.Context, domain string) (<-chan golibvirt.DomainEvent, error)
	LifecycleEvents(ctx context.Context) (<-chan golibvirt.DomainEventLifecycleMsg, error)
	Disconnect() error
}

// burst is how many events may wait for the reader.
const burst = 64

// Monitor of one domain. STOP and RESUME carry no time of QEMU's. It ends when
// the domain stops.
type Monitor struct {
	connection Connection
	domain     string

	mu    sync.Mutex
	ended error
}

var _ goqemu.Monitor = (*Monitor)(nil)

// New makes a monitor that owns a connection: Disconnect closes it. A pending
// Run ends with the connection, so two monitors must not share one.
func New(connection Connection, domain string) *Monitor {
	return &Monitor{connection: connection, domain: domain}
}

// String names the monitor in errors.
func (m *Monitor) String() string { return "libvirt domain " + m.domain }

// Connect has nothing to do: the connection is made already.
func (m *Monitor) Connect() error { return nil }

// Disconnect closes the connection to libvirt.
func (m *Monitor) Disconnect() error { return m.connection.Disconnect() }

// Run gives QEMU a command through libvirt.
func (m *Monitor) Run(command []byte) ([]byte, error) {
	return m.connection.Run(m.domain, command)
}

// Err says why the events ended; nil while they flow.
func (m *Monitor) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// Events streams until the context ends, the domain stops or the connection
// is lost. The reader must drain the channel until it is closed.
func (m *Monitor) Events(ctx context.Context) (<-chan goqemu.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	details, err := m.connection.SubscribeQEMUEvents(ctx, m.domain)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("subscribe to QEMU's events: %w", err)
	}
	lifecycle, err := m.connection.LifecycleEvents(ctx)
	if err != nil {
		cancel()
		drain(details)
		return nil, fmt.Errorf("subscribe to lifecycle events: %w", err)
	}
	out := make(chan goqemu.Event, burst)
	go func() {
		defer close(out)
		why := m.forward(ctx, details, lifecycle, out)
		m.mu.Lock()
		m.ended = why
		m.mu.Unlock()
		cancel()
		drain(details) // go-libvirt may be stuck in handing one over
		drain(lifecycle)
	}()
	return out, nil
}

func (m *Monitor) forward(ctx context.Context, details <-chan golibvirt.DomainEvent,
	lifecycle <-chan golibvirt.DomainEventLifecycleMsg, out chan<- goqemu.Event) error {
	for {
		select {
		case e, ok := <-details:
			if !ok {
				return fmt.Errorf("libvirt ended QEMU's events")
			}
			if event, ok := withDetails(e); ok {
				out <- event
			}
		case l, ok := <-lifecycle:
			if !ok {
				return fmt.Errorf("libvirt ended the lifecycle events")
			}
			if l.Dom.Name != m.domain {
				continue
			}
			switch golibvirt.DomainEventType(l.Event) {
			case golibvirt.DomainEventSuspended:
				out <- goqemu.Event{Event: "STOP"}
			case golibvirt.DomainEventResumed:
				out <- goqemu.Event{Event: "RESUME"}
			case golibvirt.DomainEventStopped, golibvirt.DomainEventCrashed:
				return fmt.Errorf("the domain stopped")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// withDetails leaves out what lifecycle events stand for, and what cannot be
// read.
func withDetails(e golibvirt.DomainEvent) (goqemu.Event, bool) {
	if e.Event == "STOP" || e.Event == "RESUME" {
		return goqemu.Event{}, false
	}
	event := goqemu.Event{Event: e.Event}
	event.Timestamp.Seconds = int64(e.Seconds)
	event.Timestamp.Microseconds = int64(e.Microseconds)
	if len(e.Details) > 0 && json.Unmarshal(e.Details, &event.Data) != nil {
		return goqemu.Event{}, false
	}
	return event, true
}

func drain[T any](c <-chan T) {
	for range c {
	}
}
