// Package status is what others may know of this host's machines while their run loops
// are at work: the state of each, and the events of all. It holds nothing up: a reader
// takes a copy, and a listener that does not read loses its oldest events.
package status
