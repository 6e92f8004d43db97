package falseqemu

import (
	"fmt"
	"strconv"
	"strings"
)

// Ways to misbehave.
const (
	Ends          = "ends"           // at once, with an error
	Garbage       = "garbage"        // instead of the first copy
	Dies          = "dies"           // in the first copy
	HangsUp       = "hangs up"       // before the first copy
	BadCheckpoint = "bad checkpoint" // a page outside of memory
	LargeDevice   = "large device"   // a device state of 1 TiB
	WritesDisk    = "writes disk"    // has a disk that it can write to
	EndsPrepared  = "ends prepared"  // as a standby's, with an error, before it listens
	TellsLate     = "tells late"     // its machine type, after tellsAfter
	FailsTakeover = "fails takeover" // ends when it is to run from a replica
	SleepsOn      = "sleeps on"      // takes a replica and does not run
	Tears         = "tears"          // takes what waits on the agent channel with its guest stopped
)

// Places where a false QEMU goes on no more, as faults.
const (
	Deaf          = "deaf"           // it does not answer "migrate"
	NeverConnects = "never connects" // to where it is to migrate to
	StallsFirst   = "stalls first"   // in the first copy
	StallsStopped = "stalls stopped" // in the device state of the first copy
	NeverEnters   = "never enters"   // COLO, after the first copy
	NeverResumes  = "never resumes"  // after the first copy
	NeverAsks     = "never asks"     // for a checkpoint
)

// Guest is what a false QEMU plays.
type Guest struct {
	// Fault is the way in which it misbehaves, none if empty.
	Fault string
	// Seed is the pages of the first copy, Dirty those of each checkpoint,
	// and Device the bytes of device state.
	Seed, Dirty, Device int
	// Hang is the number of the checkpoint, from 1, in which QEMU says nothing
	// more while its guest is stopped; 0 for none.
	Hang int
	// Series of QEMU whose dialect it speaks: 10, or 11.
	Series int
	// Prints is how many bytes the guest prints on its console, without a pause.
	Prints int
	// Says is how many bytes QEMU itself prints.
	Says int
}

// String is the "append" that Parse reads.
func (g Guest) String() string {
	numbers := fmt.Sprintf("seed=%d,dirty=%d,device=%d,hang=%d,series=%d,prints=%d,says=%d", g.Seed, g.Dirty, g.Device, g.Hang, g.Series, g.Prints, g.Says)
	if g.Fault == "" {
		return numbers
	}
	return g.Fault + "," + numbers
}

// Parse reads "append": a fault and numbers by their names, with commas
// between. What is not told is little: one page, and 64 bytes of devices.
func Parse(text string) (Guest, error) {
	g := Guest{Seed: 1, Dirty: 1, Device: 64, Series: 10}
	numbers := map[string]*int{"seed": &g.Seed, "dirty": &g.Dirty, "device": &g.Device, "hang": &g.Hang, "series": &g.Series, "prints": &g.Prints, "says": &g.Says}
	for _, word := range strings.Split(text, ",") {
		name, value, isNumber := strings.Cut(word, "=")
		if !isNumber {
			g.Fault = word
			continue
		}
		n, err := strconv.Atoi(value)
		to := numbers[name]
		if err != nil || n < 0 || to == nil {
			return g, fmt.Errorf("false QEMU: %q in %q: want one of seed, dirty, device, hang, series, prints, says, and a number", word, text)
		}
		*to = n
	}
	return g, nil
}
