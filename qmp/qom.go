package qmp

import (
	"context"
	"strings"
)

// QOMGet reads a property of an object in QEMU's object model into value, a pointer to
// what its JSON decodes into. Unlike the x-query-virtio commands it cannot end QEMU:
// x-query-virtio-status runs into an assertion of QEMU 11.1.3.
func (c *Client) QOMGet(ctx context.Context, path, property string, value any) error {
	return c.Execute(ctx, "qom-get", map[string]any{"path": path, "property": property}, value)
}

// MachineType is the machine's type by its versioned name, "pc-i440fx-10.0" for
// instance, whatever alias QEMU was started with.
func (c *Client) MachineType(ctx context.Context) (string, error) {
	var name string
	err := c.QOMGet(ctx, "/machine", "type", &name)
	return strings.TrimSuffix(name, "-machine"), err
}
