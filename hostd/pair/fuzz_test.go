package pair_test

import (
	"slices"
	"testing"

	. "github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// FuzzStep feeds a machine any events in any order, answers that nobody asked
// for among them, and checks what one host alone can promise.
func FuzzStep(f *testing.F) {
	for _, seed := range [][]byte{
		{0, 0, 1, 1, 2, 0, 3, 1, 4, 1, 5, 1, 3, 2, 4, 2, 6, 0, 3, 0x83, 4, 3, 7, 2},
		{0, 3, 1, 1, 2, 0, 3, 1, 4, 1, 8, 0, 9, 0, 10, 0, 11, 4, 5, 5, 12, 0},
		{13, 0, 14, 1, 15, 1, 14, 2, 8, 0, 5, 2, 16, 0, 12, 0},
		{13, 0, 14, 1, 15, 1, 17, 1, 5, 2, 18, 0, 5, 3},
		{13, 0, 14, 1, 19, 0, 9, 0, 10, 0, 11, 1},
		{13, 0, 14, 1, 15, 1, 19, 0, 24, 0, 5, 2, 16, 0, 9, 0x80, 5, 3},
		{0, 0, 1, 1, 2, 0, 3, 1, 4, 1, 5, 1, 24, 0, 3, 2, 4, 2, 9, 0x80, 24, 0, 5, 2},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := checker{t: t, machine: New("a", "m")}
		for len(data) >= 2 {
			c.step(event(data[0], data[1]))
			data = data[2:]
		}
	})
}

// event made of two bytes: which, and its number. The top bit of the number is
// a flag.
func event(which, n byte) Event {
	number, flag := uint64(n&0x7f), n&0x80 != 0
	holder := "a"
	if flag {
		holder = "b"
	}
	all := []Event{Started{number, flag}, Protect{"b"}, StandbyPrepared{}, EpochCaptured{number, flag}, EpochAcked{number},
		Granted{number}, SwitchoverAsked{}, PeerTookOver{number}, LinkLost{"x"}, ArbiterSilent{"x", flag}, RetryDue{},
		Denied{holder, number}, MachineLost{"x"}, BecomeStandby{"b", number}, EpochStored{number}, RoleGranted{number},
		Running{}, HandedOver{number}, TakeoverFailed{"x"}, TakeoverAsked{}, PeerMachineLost{"x"}, SeedFailed{"x"},
		Unprotect{}, StandbyDropped{Why: "x"}, Stop{}}
	return all[int(which)%len(all)]
}

// checker remembers what one machine has been told and has said.
type checker struct {
	t                 *testing.T
	machine           *Machine
	silent, fenced    bool
	stopping          bool // nothing may leave
	claiming, decided bool
	shipped           uint64 // in this pair
	acked, released   uint64
	stored, answered  uint64
	handed            bool
}

func (c *checker) step(e Event) {
	before := c.machine.Generation()
	switch e := e.(type) {
	case EpochAcked:
		if e.Epoch <= c.shipped { // stands for all before it
			c.acked = max(c.acked, e.Epoch)
		}
	case EpochStored:
		if c.machine.Role() == Standby {
			c.stored = max(c.stored, e.Epoch)
		}
	}
	if _, ok := e.(Stop); ok && c.machine.Role() != Fenced {
		c.stopping = true
	}
	effects := slices.Clone(c.machine.Step(e))
	if c.machine.Generation() < before {
		c.t.Fatalf("%T: generation went from %d to %d", e, before, c.machine.Generation())
	}
	switch e.(type) {
	case Granted, Denied, ArbiterSilent:
		c.claiming = false
	}
	for _, effect := range effects {
		c.output(e, effect)
		c.roles(e, effect)
	}
	c.fenced = c.fenced || c.machine.Role() == Fenced
	if c.fenced && c.machine.Role() != Fenced {
		c.t.Fatalf("%T led out of fenced", e)
	}
}

func (c *checker) output(e Event, effect Effect) {
	t := c.t
	switch x := effect.(type) {
	case Release:
		if x.Epoch > c.acked || x.Epoch < c.released || c.handed {
			t.Fatalf("%T: releases %d; acknowledged %d, released %d, handed over %v", e, x.Epoch, c.acked, c.released, c.handed)
		}
		c.released = x.Epoch
	case Ship:
		c.shipped = x.Epoch
	case ConnectStandby:
		c.shipped, c.acked, c.released, c.handed = 0, 0, 0, false
	case HandOver:
		if x.Epoch != c.released {
			t.Fatalf("%T: hands over %d and has released %d", e, x.Epoch, c.released)
		}
		c.handed = true
	case Ack:
		if x.Epoch != c.stored || x.Epoch <= c.answered || c.decided {
			t.Fatalf("%T: acknowledges %d; stored %d, acknowledged %d, decided %v", e, x.Epoch, c.stored, c.answered, c.decided)
		}
		c.answered = x.Epoch
	}
	switch effect.(type) {
	case Release, PassOutput, GoLive:
		if c.silent || c.stopping {
			t.Fatalf("%T: %T after silence, or while the machine is to stop", e, effect)
		}
	case StopRefused, Stopped:
		if !c.stopping && c.machine.Role() != Fenced {
			t.Fatalf("%T: %T without a stop", e, effect)
		}
		c.stopping = false
	case Silence:
		c.silent = true
	}
}

func (c *checker) roles(e Event, effect Effect) {
	switch x := effect.(type) {
	case Claim:
		if c.claiming || x.Expect < c.machine.Generation() {
			c.t.Fatalf("%T: claims %+v; another is unanswered: %v; generation %d", e, x, c.claiming, c.machine.Generation())
		}
		c.claiming = true
		c.decided = c.decided || x.Kind == ClaimTakeover || x.Kind == ClaimHandover
	case TakeOver, GoLive:
		if !c.decided || c.stored == 0 || c.claiming {
			c.t.Fatalf("%T: %T without a granted claim", e, effect)
		}
	}
	switch effect.(type) {
	case EndInput, Report, Refused, Stopped:
	default:
		if c.fenced {
			c.t.Fatalf("%T: %T when fenced", e, effect)
		}
	}
}
