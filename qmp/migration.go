package qmp

import (
	"context"
	"maps"
	"slices"
)

// MigrationStatus as in qapi/migration.json.
type MigrationStatus string

const (
	MigrationNone        MigrationStatus = "none"
	MigrationSetup       MigrationStatus = "setup"
	MigrationCancelling  MigrationStatus = "cancelling"
	MigrationCancelled   MigrationStatus = "cancelled"
	MigrationActive      MigrationStatus = "active"
	MigrationDevice      MigrationStatus = "device"
	MigrationPreSwitch   MigrationStatus = "pre-switchover"
	MigrationWaitUnplug  MigrationStatus = "wait-unplug"
	MigrationCOLO        MigrationStatus = "colo"
	MigrationCompleted   MigrationStatus = "completed"
	MigrationFailing     MigrationStatus = "failing" // since QEMU 11
	MigrationFailed      MigrationStatus = "failed"
	MigrationPostcopy    MigrationStatus = "postcopy-active"
	MigrationPostPaused  MigrationStatus = "postcopy-paused"
	MigrationPostRecover MigrationStatus = "postcopy-recover"
)

// MigrationInfo is the state of a migration, of which COLO is one.
type MigrationInfo struct {
	Status MigrationStatus `json:"status"`
	// ErrorDesc says why it failed.
	ErrorDesc string `json:"error-desc"`
	// TotalTime and SetupTime are in milliseconds.
	TotalTime int64         `json:"total-time"`
	SetupTime int64         `json:"setup-time"`
	RAM       *MigrationRAM `json:"ram"`
}

// MigrationRAM is in bytes, but for the pages.
type MigrationRAM struct {
	Transferred    uint64 `json:"transferred"`
	Remaining      uint64 `json:"remaining"`
	Total          uint64 `json:"total"`
	DirtySyncCount uint64 `json:"dirty-sync-count"`
	// Normal and Duplicate count data pages and zero pages.
	Normal    uint64 `json:"normal"`
	Duplicate uint64 `json:"duplicate"`
}

// QueryMigrate asks for the state of the migration; MigrationNone if there
// never was one.
func (c *Client) QueryMigrate(ctx context.Context) (MigrationInfo, error) {
	info := MigrationInfo{Status: MigrationNone}
	return info, c.query(ctx, "query-migrate", &info)
}

// capability is MigrationCapabilityStatus in qapi/migration.json.
type capability struct {
	Capability string `json:"capability"`
	State      bool   `json:"state"`
}

// SetCapabilities switches migration capabilities on or off. It is refused
// while a migration runs.
func (c *Client) SetCapabilities(ctx context.Context, capabilities map[string]bool) error {
	list := make([]capability, 0, len(capabilities))
	for _, name := range slices.Sorted(maps.Keys(capabilities)) {
		list = append(list, capability{name, capabilities[name]})
	}
	return c.Execute(ctx, "migrate-set-capabilities", map[string]any{"capabilities": list}, nil)
}

// QueryCapabilities lists the migration capabilities that this QEMU knows, and
// whether they are on.
func (c *Client) QueryCapabilities(ctx context.Context) (map[string]bool, error) {
	var list []capability
	if err := c.query(ctx, "query-migrate-capabilities", &list); err != nil {
		return nil, err
	}
	capabilities := make(map[string]bool, len(list))
	for _, item := range list {
		capabilities[item.Capability] = item.State
	}
	return capabilities, nil
}

// MigrationParameters to set; nil leaves one as it is. Millis and Bytes make
// values.
type MigrationParameters struct {
	// CheckpointDelay is how long after a resume COLO asks for the next
	// checkpoint, in milliseconds. Setting it asks for one at once.
	CheckpointDelay *int64 `json:"x-checkpoint-delay,omitempty"`
	// MaxBandwidth is in bytes per second.
	MaxBandwidth *int64 `json:"max-bandwidth,omitempty"`
	// DowntimeLimit is in milliseconds.
	DowntimeLimit *int64 `json:"downtime-limit,omitempty"`
}

// SetParameters sets migration parameters.
func (c *Client) SetParameters(ctx context.Context, p MigrationParameters) error {
	return c.Execute(ctx, "migrate-set-parameters", p, nil)
}

// Migrate starts an outgoing migration, to "unix:PATH" for instance, and
// returns when it has begun: that nobody listens there shows in QueryMigrate
// only. Never call it while in COLO: the state sticks.
func (c *Client) Migrate(ctx context.Context, uri string) error {
	return c.Execute(ctx, "migrate", map[string]any{"uri": uri}, nil)
}

// MigrateIncoming makes a QEMU that was started with "-incoming defer" listen
// at a URI.
func (c *Client) MigrateIncoming(ctx context.Context, uri string) error {
	return c.Execute(ctx, "migrate-incoming", map[string]any{"uri": uri}, nil)
}

// COLOLostHeartbeat makes QEMU leave COLO and run on alone. It does not wait
// until the guest runs.
func (c *Client) COLOLostHeartbeat(ctx context.Context) error {
	return c.Execute(ctx, "x-colo-lost-heartbeat", nil, nil)
}

// MigrateCancel ends an outgoing migration; the guest runs on. Never call it in
// COLO: the state sticks.
func (c *Client) MigrateCancel(ctx context.Context) error {
	return c.Execute(ctx, "migrate_cancel", nil, nil)
}
