// Package voice knows who may speak for a machine. Claim is one host's wish for
// the record that follows the one which stands at the arbiter, and the only code
// that knows which record may follow which. Door is the only way to a machine's
// output: it is open while the record that this host knows to stand names it, and
// a stop closes it first of all.
package voice
