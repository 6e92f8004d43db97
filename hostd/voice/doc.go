// Package voice knows who may speak for a machine. Claim is one host's wish for
// the record that follows the one which stands at the arbiter, and the only code
// that knows which record may follow which. Host makes claims for one host and its machines;
// Heirs are what it remembers of machines that it took over, whose old primaries may be heard
// for a while: it outlasts them before it lets go. Door is the only way to a machine's
// output: it is open while the record that this host knows to stand names it, and
// a stop closes it first of all.
package voice
