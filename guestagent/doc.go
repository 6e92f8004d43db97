// Package guestagent is the library in the packet path of an application that
// Stillpoint protects. It lets the host ask for a still point: from then on
// the application is told "no packets available", whatever arrives, until the
// packets that it already holds are sent or dropped.
//
//	agent, err := guestagent.Start(guestagent.Config{})
//	in, err := agent.OpenPort("eth0", guestagent.PortOptions{})
//	out, err := agent.OpenPort("eth1", guestagent.PortOptions{})
//	packets := make([]*guestagent.Packet, 32)
//	for {
//		n, err := in.RxWait(0, packets, -1)
//		...
//		sent := out.TxBurst(0, packets[:n])
//		out.Free(0, packets[sent:n])
//	}
//
// What TxBurst does not take is still the caller's, to be sent later or freed: a packet
// that is forgotten counts as held for good, and there is no still point any more.
//
// A receive or transmit queue belongs to one goroutine at a time, as in
// poll-mode drivers; different queues run in parallel. A packet that was
// handed out counts as held by the application until it is sent or freed, by
// whichever goroutine and on whichever port, each with a transmit queue of its
// own. A goroutine that spins on RxBurst needs a processor besides the
// agent's: where there is but one, use RxWait, or raise GOMAXPROCS.
//
// What a port has sent leaves the machine. Most distributions give an interface the
// queue discipline fq_codel, which drops packets that wait for some milliseconds;
// OpenPort replaces it by a plain queue, which refuses packets while it is full, and
// says so ([PortOptions].KeepDiscipline).
//
// Without a host (no channel, or nobody at its other end) the gate is open and
// the application runs as it would anywhere.
//
// Lengths are in bytes. What cannot be the program's intention is a panic: a queue that a
// port does not have, a packet that is sent or freed twice.
//
// Interfaces are opened on Linux only. Elsewhere the package builds, so that programs can
// be tested there ([github.com/stillpoint-ft/stillpoint/guestagent/agenttest]), and
// opening one fails with an error that is [errors.ErrUnsupported].
package guestagent
