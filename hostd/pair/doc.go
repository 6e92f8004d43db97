// Package pair is the role machine of one protected machine on one host: which
// host may speak for it, and when. It is pure: events go in, effects come out,
// and there is no clock, no goroutine and no I/O. The same type serves both
// sides of a pair; a host has one Machine for each protected machine and role
// that it begins (Started or BecomeStandby), and a new one after Fenced.
//
// # What the caller owes
//
//   - Effects are carried out in the order given, before the next Step. What
//     takes long (Claim, ConnectStandby, Seed, LastEpoch, TakeOver,
//     ScheduleRetry) is begun there and answers with an event.
//   - EpochStored is reported only for an epoch that is held whole, and Ack
//     leaves this host only by its effect. Epochs are numbered from 1 in each
//     pair and reported in order.
//   - Release and PassOutput have sent before they return, and Silence holds
//     before the next effect: NotifyMachineLost and EndInput must not reach
//     the other side while output may still leave here.
//   - NotifyRole goes out before the Release that follows it, on the same
//     ordered link.
//   - Every Claim is answered by exactly one of Granted, Denied and
//     ArbiterSilent. Denied carries the record that stands, also if that is an
//     earlier claim of this host. A claim whose outcome is unknown is answered
//     by ArbiterSilent and asked again after RetryDue; a claim that won unseen
//     is then recognised by its record.
//   - A takeover or handover claim is Denied where the record of generation
//     Expect does not name Voice as its standby. Records never change, so
//     looking before the test-and-set is enough. A standby that has not been
//     told its generation only guesses it, and that generation may have become
//     something else.
//   - Started carries the generation of a record that gives this host the
//     voice, claimed for this start: a record from before may still have a
//     standby that claims.
//   - Events of one pair do not outlive it: none is delivered after the
//     Protect that begins the next.
//
// # What the machine guarantees
//
//   - Output commit. While protected, Release(N) follows EpochAcked(N). Output
//     leaves without a commit only where the arbiter has named no standby, or
//     has granted this host solo.
//   - One voice. A standby acknowledges nothing once it has decided to claim,
//     so its primary cannot commit; and of the primary's solo claim and the
//     standby's takeover claim, both on the same generation, the arbiter grants
//     one.
//   - Whole epochs. TakeOver runs from the last epoch stored, which is the last
//     acknowledged or a later one.
//   - No way back. After Silence nothing releases output, and after Fenced
//     nothing but EndInput is done.
//
// Events that do not fit the role change nothing; duplicates among them.
package pair
