// Package gate is the wire of a protected machine: for each port it moves
// frames between the tap that QEMU owns and the uplink that reaches the
// network.
//
// It enforces output commit at the only place where output can leave. While
// output is held, every frame that the guest emits is stored with the open
// epoch; Cut closes that epoch, and only Release(epoch) lets its frames go.
// Arriving frames wait in the gate from before a checkpoint's reply until the
// guest runs again, because QEMU can drop a frame that meets its stop.
//
// The tap is in no bridge and the gate's sockets are the only path, so the
// death of the process that holds a Gate silences the machine.
package gate
