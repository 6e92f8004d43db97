// Package netdev is the interfaces of this host: sockets that receive and send frames on
// them, the near ends of taps, what the kernel counts, and what it says when one of them
// goes or comes back.
package netdev
