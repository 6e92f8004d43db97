package qmp

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Version of QEMU.
type Version struct {
	Major, Minor, Micro int
	// Package is what the distribution adds.
	Package string
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// QueryVersion asks for QEMU's version.
func (c *Client) QueryVersion(ctx context.Context) (Version, error) {
	var r struct {
		QEMU    struct{ Major, Minor, Micro int }
		Package string
	}
	err := c.Execute(ctx, "query-version", nil, &r)
	return Version{r.QEMU.Major, r.QEMU.Minor, r.QEMU.Micro, r.Package}, err
}

// Run states of the guest (RunState in qapi/run-state.json), the usual ones.
const (
	StateRunning       = "running"
	StatePaused        = "paused"
	StatePrelaunch     = "prelaunch"
	StateInMigrate     = "inmigrate"
	StatePostMigrate   = "postmigrate"
	StateFinishMigrate = "finish-migrate"
	StateCOLO          = "colo"
	StateShutdown      = "shutdown"
	StateInternalError = "internal-error"
	StateIOError       = "io-error"
	StateSuspended     = "suspended"
	StatePanicked      = "guest-panicked"
	StateWatchdog      = "watchdog"
)

// StatusInfo is the guest's run state.
type StatusInfo struct {
	Status  string `json:"status"`
	Running bool   `json:"running"`
}

// QueryStatus asks whether the guest runs.
func (c *Client) QueryStatus(ctx context.Context) (StatusInfo, error) {
	var s StatusInfo
	return s, c.query(ctx, "query-status", &s)
}

func (c *Client) query(ctx context.Context, name string, result any) error {
	return c.Execute(ctx, name, nil, result)
}

// Stop pauses the guest. In COLO the next checkpoint undoes it.
func (c *Client) Stop(ctx context.Context) error { return c.Execute(ctx, "stop", nil, nil) }

// Cont lets the guest run.
func (c *Client) Cont(ctx context.Context) error { return c.Execute(ctx, "cont", nil, nil) }

// SystemPowerdown presses the guest's power button; the guest may ignore it.
func (c *Client) SystemPowerdown(ctx context.Context) error {
	return c.Execute(ctx, "system_powerdown", nil, nil)
}

// Quit ends QEMU at once. QEMU hanging up before its answer is success; its
// process may live on for a moment.
func (c *Client) Quit(ctx context.Context) error {
	err := c.Execute(ctx, "quit", nil, nil)
	if errors.Is(err, ErrEnded) {
		return nil
	}
	return err
}

// Chardev is a character device and whether its guest side is open.
type Chardev struct {
	Label        string `json:"label"`
	Filename     string `json:"filename"`
	FrontendOpen bool   `json:"frontend-open"`
}

// QueryChardev lists the character devices.
func (c *Client) QueryChardev(ctx context.Context) ([]Chardev, error) {
	var list []Chardev
	err := c.query(ctx, "query-chardev", &list)
	return list, err
}

// CPU is a virtual CPU and the host's thread that runs it.
type CPU struct {
	Index    int    `json:"cpu-index"`
	ThreadID int    `json:"thread-id"`
	QOMPath  string `json:"qom-path"`
}

// QueryCPUs lists the virtual CPUs; it does not disturb the guest.
func (c *Client) QueryCPUs(ctx context.Context) ([]CPU, error) {
	var list []CPU
	err := c.query(ctx, "query-cpus-fast", &list)
	return list, err
}

// YankInstance names what may be yanked: a block node, a character device
// or the migration (qapi/yank.json).
type YankInstance struct {
	// Type is "block-node", "chardev" or "migration".
	Type     string `json:"type"`
	NodeName string `json:"node-name,omitempty"`
	ID       string `json:"id,omitempty"`
}

// YankBlockNode, YankChardev and YankMigration name instances for Yank.
func YankBlockNode(name string) YankInstance {
	return YankInstance{Type: "block-node", NodeName: name}
}
func YankChardev(id string) YankInstance { return YankInstance{Type: "chardev", ID: id} }
func YankMigration() YankInstance        { return YankInstance{Type: "migration"} }

// QueryYank lists what can be yanked now. It goes out of band where that was
// negotiated.
func (c *Client) QueryYank(ctx context.Context) ([]YankInstance, error) {
	var list []YankInstance
	err := c.executeUrgently(ctx, "query-yank", nil, &list)
	return list, err
}

// Yank breaks connections on which QEMU may hang. It goes out of band where
// that was negotiated (DialOutOfBand), past a main loop that hangs.
func (c *Client) Yank(ctx context.Context, instances ...YankInstance) error {
	arguments := map[string]any{"instances": append([]YankInstance{}, instances...)}
	return c.executeUrgently(ctx, "yank", arguments, nil)
}

// Millis gives whole milliseconds, rounded up, for MigrationParameters.
func Millis(d time.Duration) *int64 {
	ms := int64((d + time.Millisecond - 1) / time.Millisecond)
	return &ms
}

// Bytes gives a number of bytes (per second) for MigrationParameters.
func Bytes(n int64) *int64 { return &n }
