package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/qmp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ Connection = (*golibvirt.Libvirt)(nil)

// connection behaves as go-libvirt does: events go over unbuffered channels
// that are closed some time after the context ends, events without details
// never come, lifecycle events are of all domains, errors have no class.
type connection struct {
	replies   map[string]string
	hang      chan struct{} // a pending Run ends with the connection
	once      sync.Once
	details   chan golibvirt.DomainEvent
	lifecycle chan golibvirt.DomainEventLifecycleMsg
	refuse    error
}

func newConnection() *connection {
	return &connection{
		replies: map[string]string{}, hang: make(chan struct{}),
		details:   make(chan golibvirt.DomainEvent),
		lifecycle: make(chan golibvirt.DomainEventLifecycleMsg),
	}
}

func (c *connection) Run(domain string, command []byte) ([]byte, error) {
	var cmd struct {
		Execute string
		ID      any
	}
	if err := json.Unmarshal(command, &cmd); err != nil || domain != "nat" || cmd.ID != nil {
		return nil, errors.New("libvirt puts the id in itself") // and fails if there is one
	}
	reply, ok := c.replies[cmd.Execute]
	if !ok {
		<-c.hang
		return nil, errors.New("disconnected")
	}
	if reply == "" {
		return nil, errors.New("internal error: unable to execute QEMU command")
	}
	return []byte(reply), nil
}

func (c *connection) Disconnect() error {
	c.once.Do(func() { close(c.hang) })
	return nil
}

func (c *connection) SubscribeQEMUEvents(ctx context.Context, _ string) (<-chan golibvirt.DomainEvent, error) {
	return stream(ctx, c.details), nil
}

func (c *connection) LifecycleEvents(ctx context.Context) (<-chan golibvirt.DomainEventLifecycleMsg, error) {
	if c.refuse != nil {
		return nil, c.refuse
	}
	return stream(ctx, c.lifecycle), nil
}

func stream[T any](ctx context.Context, in <-chan T) <-chan T {
	out := make(chan T)
	go func() {
		defer close(out)
		for {
			select {
			case v, ok := <-in:
				if !ok {
					return
				}
				out <- v // without a look at the context, as go-libvirt does
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (c *connection) happen(domain string, e golibvirt.DomainEventType) {
	c.lifecycle <- golibvirt.DomainEventLifecycleMsg{Dom: golibvirt.Domain{Name: domain}, Event: int32(e)}
}

func connect(t *testing.T) (*qmp.Client, *connection, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	l := newConnection()
	c, err := qmp.New(ctx, New(l, "nat"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, l, ctx
}

func TestVerbsThroughLibvirt(t *testing.T) {
	c, l, ctx := connect(t)
	l.replies["query-status"] = `{"return":{"status":"running","running":true},"id":"libvirt-17"}`
	l.replies["stop"] = ""
	if s, err := c.QueryStatus(ctx); err != nil || !s.Running {
		t.Errorf("%+v, %v", s, err)
	}
	var failed *qmp.CommandError
	if err := c.Stop(ctx); !errors.As(err, &failed) || failed.Monitor != "libvirt domain nat" {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := c.Cont(short); !errors.Is(err, qmp.ErrOutcomeUnknown) {
		t.Error(err)
	}
}

func TestLifecyclePairsStandForStopAndResume(t *testing.T) {
	c, l, ctx := connect(t)
	events := c.Events()
	go func() {
		l.happen("other", golibvirt.DomainEventStopped)
		for range 3 {
			l.happen("nat", golibvirt.DomainEventSuspended)
			l.happen("nat", golibvirt.DomainEventResumed)
		}
	}()
	for i := range 6 {
		select {
		case e := <-events.C():
			if want := []string{"STOP", "RESUME"}[i%2]; e.Name != want || !e.QEMUTime.IsZero() || e.Received.IsZero() {
				t.Errorf("%+v, want %s", e, want)
			}
		case <-ctx.Done():
			t.Fatal("no event")
		}
	}
	l.details <- golibvirt.DomainEvent{Event: "STOP", Details: []byte(`{}`)}
	l.details <- golibvirt.DomainEvent{Event: "BROKEN", Details: []byte(`{`)}
	l.details <- golibvirt.DomainEvent{Event: "COLO_EXIT", Seconds: 5, Microseconds: 7, Details: []byte(`{"mode":"primary"}`)}
	if e := <-events.C(); e.Name != "COLO_EXIT" || e.Data["mode"] != "primary" || !e.QEMUTime.Equal(time.Unix(5, 7000)) {
		t.Errorf("%+v", e)
	}
}

func TestTheMonitorEndsWithTheDomain(t *testing.T) {
	for what, end := range map[string]func(*connection){
		"domain":    func(l *connection) { l.happen("nat", golibvirt.DomainEventStopped) },
		"details":   func(l *connection) { close(l.details) },
		"lifecycle": func(l *connection) { close(l.lifecycle) },
	} {
		c, l, ctx := connect(t)
		end(l)
		select {
		case <-c.Done():
			if !errors.Is(c.Err(), qmp.ErrEnded) {
				t.Errorf("%s: %v", what, c.Err())
			}
		case <-ctx.Done():
			t.Fatalf("%s: not told", what)
		}
	}
}

func TestASubscriptionThatFails(t *testing.T) {
	l := newConnection()
	l.refuse = errors.New("no lifecycle events")
	if _, err := qmp.New(t.Context(), New(l, "nat"), nil); !errors.Is(err, l.refuse) {
		t.Error(err)
	}
}
