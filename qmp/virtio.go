package qmp

import "context"

// VirtioQueue is what of VirtQueueStatus in qapi/virtio.json tells whether a device has
// buffers of its guest left.
type VirtioQueue struct {
	// Descriptors is where the queue lies in the guest's memory; 0 until a driver has
	// set it up.
	Descriptors uint64 `json:"vring-desc"`
	// Available is up to where the guest has made buffers available, as far as the
	// device has looked, and Taken up to where the device has taken them, both modulo
	// 2^16.
	Available uint16 `json:"shadow-avail-idx"`
	Taken     uint16 `json:"last-avail-idx"`
}

// Exhausted tells whether the device has taken every buffer that it knows of. What
// arrives then waits inside QEMU until the guest makes others available.
func (q VirtioQueue) Exhausted() bool { return q.Descriptors != 0 && q.Available == q.Taken }

// VirtioQueue asks for the state of a queue of the virtio device at a path of QEMU's
// object model. The command is not part of QEMU's stable interface; QEMU 10.0 and 11.1
// have it.
func (c *Client) VirtioQueue(ctx context.Context, path string, queue int) (VirtioQueue, error) {
	var q VirtioQueue
	return q, c.Execute(ctx, "x-query-virtio-queue-status", map[string]any{"path": path, "queue": queue}, &q)
}
