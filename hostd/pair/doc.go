// Package pair is the role machine of one protected machine on one host: which
// host may speak for it, and when. It is pure: events go in, effects come out,
// and there is no clock, no goroutine and no I/O.
//
// The caller carries out effects in the order given, before the next Step.
// Three duties are its own: EpochStored is only reported for an epoch that is
// held whole; Release and PassOutput have sent before they return; every Claim
// is answered by exactly one of Granted, Denied and ArbiterSilent.
//
// What the machine guarantees:
//
//   - Output commit. While protected, Release(N) follows EpochAcked(N). Output
//     leaves without a commit only where the arbiter has named no standby, or
//     has granted this host solo.
//   - One voice. A standby acknowledges nothing once it has decided to claim,
//     so its primary cannot commit; and of the primary's solo claim and the
//     standby's takeover claim, both on the same generation, the arbiter grants
//     one.
//
// Events that do not fit the role change nothing.
package pair
