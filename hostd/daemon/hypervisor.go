package daemon

import (
	"context"
	"net"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// Hypervisor runs QEMUs, as the functions of package machine do.
type Hypervisor interface {
	Start(ctx context.Context, o machine.Options) (QEMU, error)
	// Find returns a QEMU also where it fails: one to Remove.
	Find(o machine.Options, taps []string) (QEMU, error)
}

// QEMU is one that runs or waits, as machine.Machine is.
type QEMU interface {
	Connect(ctx context.Context) error
	Monitor() *qmp.Client
	// DialAgent connects to the agent channel.
	DialAgent(ctx context.Context) (net.Conn, error)
	// ListenCOLO waits for the stream of a protection.
	ListenCOLO() (capture.Listener, error)
	// IncomingURI is where a waiting QEMU takes the stream of a takeover, and
	// DialIncoming connects to it.
	IncomingURI() string
	DialIncoming(ctx context.Context) (net.Conn, error)
	RAMFile() string
	Taps() []string
	Pid() int
	// UrgentSocket is the supervisor's monitor.
	UrgentSocket() string

	Ending() <-chan struct{}
	Exited() <-chan struct{}
	Reason() error
	Signal()
	Kill()
	Release()
	Remove()
}

// processes are the QEMUs of this host.
type processes struct{}

func (processes) Start(ctx context.Context, o machine.Options) (QEMU, error) {
	m, err := machine.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return process{m}, nil
}

func (processes) Find(o machine.Options, taps []string) (QEMU, error) {
	m, err := machine.Find(o, taps)
	return process{m}, err
}

type process struct{ *machine.Machine }

func (p process) ListenCOLO() (capture.Listener, error) {
	l, err := capture.ListenUnix(p.COLOSocket(), p.COLOURI())
	if err != nil {
		return nil, err
	}
	if err := p.GiveCOLO(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (p process) DialIncoming(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", p.IncomingSocket())
}

func (p process) DialAgent(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", p.AgentSocket())
}
