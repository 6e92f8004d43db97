package qmp

import (
	"context"
	"strings"
)

// BlockDevice is what of BlockInfo in qapi/block-core.json tells what a guest can write
// to.
type BlockDevice struct {
	Device   string `json:"device"` // the backend's name; empty where only its user has one
	User     string `json:"qdev"`   // path, or id, of the device that the guest sees
	Inserted *struct {
		File     string `json:"file"`
		ReadOnly bool   `json:"ro"`
	} `json:"inserted"` // nil: no medium
}

// Writable says that the guest's writes change a medium. A flash chip's do not count:
// what it holds is memory, and QEMU writes it out anew wherever the guest goes on.
func (b BlockDevice) Writable() bool {
	flash := strings.HasPrefix(b.Device, "pflash") || strings.Contains(b.User, "system.flash")
	return b.Inserted != nil && !b.Inserted.ReadOnly && !flash
}

// QueryBlock lists the block devices.
func (c *Client) QueryBlock(ctx context.Context) ([]BlockDevice, error) {
	var all []BlockDevice
	return all, c.Execute(ctx, "query-block", nil, &all)
}
