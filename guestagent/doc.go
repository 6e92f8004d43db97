// Package guestagent is the library in the packet path of an application that
// Stillpoint protects. It lets the host ask for a still point: from then on
// the application is told "no packets available", whatever arrives, until the
// packets that it already holds are sent or dropped.
//
//	agent, err := guestagent.Start(guestagent.Config{})
//	port, err := agent.OpenPort("eth0", guestagent.PortOptions{})
//	for {
//		n, err := port.RxWait(0, packets, -1)
//		...
//		sent := out.TxBurst(0, packets[:n])
//	}
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
package guestagent
