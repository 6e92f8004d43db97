package qmp

import (
	"errors"
	"fmt"
)

var (
	// ErrNotSent says that QEMU never saw the command.
	ErrNotSent = errors.New("not sent")
	// ErrOutcomeUnknown says that the command was sent and not answered: QEMU
	// may have done it, may be doing it, or may do it later.
	ErrOutcomeUnknown = errors.New("no answer; the state of QEMU is unknown")
	// ErrEnded says that the monitor ended by itself: QEMU died or hung up.
	ErrEnded = errors.New("the monitor ended")
	// ErrClosed says that the Client was closed.
	ErrClosed = errors.New("the monitor was closed")
)

// CommandError says which command failed, and where.
type CommandError struct {
	Command string
	// Monitor is the path of the socket, or what else names the monitor.
	Monitor string
	Err     error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("QMP command %s on %s: %v", e.Command, e.Monitor, e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// Classes of errors in QEMU (qapi/error.json).
const (
	ClassGeneric         = "GenericError"
	ClassCommandNotFound = "CommandNotFound"
	ClassDeviceNotFound  = "DeviceNotFound"
)

// RefusedError is QEMU's own answer to a command that it did not do. Monitors
// other than Dial's drop the class and give a plain error instead.
type RefusedError struct {
	Class       string
	Description string
}

func (e *RefusedError) Error() string { return e.Description + " (" + e.Class + ")" }
