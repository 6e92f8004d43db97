package netdev

import (
	"errors"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

// ErrUncarried says that a frame was read that cannot be carried. Others follow.
var ErrUncarried = errors.New("a frame that cannot be carried")

// ErrFull says that a tap has no room for a frame now.
var ErrFull = errors.New("the tap has no room")

// ErrDown says that a tap takes nothing until it is up again.
var ErrDown = errors.New("the tap is down")

// ErrGone says that a tap was removed, with what was in it. QEMU takes nothing any more.
var ErrGone = errors.New("the tap is gone")

var (
	errUntold  = fmt.Errorf("%w: it stands for many of a kind that the virtio header does not know", ErrUncarried)
	errTooLong = fmt.Errorf("%w: it is longer than %d bytes", ErrUncarried, MaxFrame-segment.VirtioHeader-segment.VLANTag)
)
