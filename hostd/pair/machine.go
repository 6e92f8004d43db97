package pair

import "fmt"

// Machine holds the role. It is not safe for concurrent use.
type Machine struct {
	host, name string
	role       Role
	generation uint64
	peer       string // primary: the standby; standby: the primary
	claim      *Claim // unanswered, or to be asked again
	asked      bool   // the claim is at the arbiter
	runs       bool   // the machine was started here, or taken over
	gone       bool   // QEMU on this host has ended
	unknown    bool   // a try of the claim may have won, or may win yet
	stopping   bool   // an operator stops the machine; nothing leaves
	won        Kind   // while stopping, and not acted upon
	heir       string // who won against a stop
	effects    []Effect

	primary primary
	standby standby
}

// primary is what only the side that runs the machine keeps.
type primary struct {
	from            Role // before the protection
	captured, acked uint64
	lost            bool // the link ended while a claim was unanswered
	held            bool // an epoch was committed while the machine was to stop
	lone            bool // while it was to stop, the record turned out to be another one of this host
	ending          bool // an operator ends the protection
	switching       bool
	last            uint64 // the last epoch of a switch-over
	handed          bool   // the last epoch is out; the guest is stopped
}

// standby is what only the other side keeps.
type standby struct {
	stored  uint64
	named   bool // the primary told the generation that names this host
	decided bool // to claim: nothing is acknowledged any more
	planned bool // by a switch-over
	waited  bool // for by a primary that lives and cannot go on meanwhile
	ran     bool // QEMU runs the machine, which is to stop
	failure string
}

// New returns the role machine of a machine on a host.
func New(host, machine string) *Machine {
	return &Machine{host: host, name: machine, role: Unprotected}
}

// Role now.
func (m *Machine) Role() Role { return m.role }

// Generation that this host knows to stand at the arbiter.
func (m *Machine) Generation() uint64 { return m.generation }

// Step takes one event and returns what is to be done, in order. The slice is
// valid until the next Step.
func (m *Machine) Step(e Event) []Effect {
	m.effects = m.effects[:0]
	switch e := e.(type) {
	case Granted:
		m.granted(e)
	case Denied:
		m.denied(e)
	case ArbiterSilent:
		m.silent(e)
	case RetryDue:
		m.retry()
	default:
		if why := m.refuses(e); why != "" {
			m.do(Refused{why})
			return m.effects
		}
		m.stepSide(e)
	}
	m.tellStop()
	return m.effects
}

func (m *Machine) stepSide(e Event) {
	begin, ok := e.(BecomeStandby)
	switch {
	case ok:
		m.become(begin)
	case e == Event(Stop{}):
		m.stop()
	case m.role == Standby || m.role == TakingOver:
		m.stepStandby(e)
	default:
		m.stepPrimary(e)
	}
}

func (m *Machine) do(e ...Effect) { m.effects = append(m.effects, e...) }

func (m *Machine) report(kind, format string, args ...any) {
	m.do(Report{kind, fmt.Sprintf(format, args...)})
}

func (m *Machine) ask(c Claim) {
	m.claim, m.asked, m.unknown = &c, true, false
	m.do(c)
}

// granted: the arbiter names what was claimed. Another generation answers an
// older claim.
func (m *Machine) granted(e Granted) {
	if m.claim == nil || !m.asked || e.Generation != m.claim.Expect+1 {
		return
	}
	kind := m.claim.Kind
	m.claim, m.asked, m.generation = nil, false, e.Generation
	if m.stopping && kind != ClaimStop && kind != ClaimReturn {
		m.won = kind
		m.leaveOldPrimary()
		m.claimStop()
		return
	}
	m.carryOn(kind)
}

// carryOn does what a claim was made for.
func (m *Machine) carryOn(won Kind) {
	switch won {
	case ClaimPair:
		m.paired()
	case ClaimSolo:
		m.alone()
	case ClaimTakeover, ClaimHandover:
		m.takeOver()
	case ClaimReturn:
		m.dropReplica("the machine was given back to host %s", m.peer)
	case ClaimStop:
		m.ended()
	}
}

// denied: another record stands. If it gives the voice to this host, an
// earlier claim of ours won unseen.
func (m *Machine) denied(e Denied) {
	if m.claim == nil || !m.asked {
		return
	}
	c := *m.claim
	own := e.Holder == m.host && c.Voice == m.host && e.Generation > c.Expect
	switch {
	case c.Kind == ClaimStop:
		m.deniedStop(e)
	case own && c.Kind != ClaimSolo && e.Generation == c.Expect+1:
		m.granted(Granted{e.Generation})
	case own && m.onPrimary(): // the record may name a standby: go on from it
		m.generation = e.Generation
		m.goAlone()
	case m.onPrimary() && e.Generation <= c.Expect, e.Generation < m.generation:
		m.forgetful(e)
	default:
		m.lose(e)
	}
}

// forgetful: an arbiter that has lost what it granted decides nothing.
func (m *Machine) forgetful(e Denied) {
	why := fmt.Sprintf("it says generation %d, and has said %d before", e.Generation, max(m.claim.Expect, m.generation))
	m.undecided(ArbiterSilent{Why: why}, "the arbiter has lost what it granted")
}

// goAlone without the standby that the standing record may name; to the end, where
// the machine is to stop.
func (m *Machine) goAlone() {
	if m.stopping {
		m.primary.lone = true
		m.claimStop()
		return
	}
	m.claimSolo()
}

func (m *Machine) onPrimary() bool { return m.role == Seeding || m.role == Protected }

// lose ends this host's part: the voice is another's.
func (m *Machine) lose(e Denied) {
	m.generation, m.heir = max(m.generation, e.Generation), e.Holder
	holder := "nobody has the voice"
	if e.Holder != "" {
		holder = fmt.Sprintf("host %q has the voice", e.Holder)
	}
	if m.role != Standby && m.role != TakingOver {
		m.fence(fmt.Sprintf("%s (generation %d)", holder, e.Generation))
		return
	}
	m.dropReplica("%s (generation %d)", holder, e.Generation)
}

// silent: the arbiter could not be asked, and the claim may even have won. The
// same claim is repeated until it is answered: any other could take the
// generation for which the standby, if it was named unseen, holds a claim.
func (m *Machine) silent(e ArbiterSilent) { m.undecided(e, "the arbiter does not answer") }

func (m *Machine) undecided(e ArbiterSilent, what string) {
	if m.claim == nil || !m.asked {
		return
	}
	m.asked, m.unknown = false, m.unknown || !e.NotMade
	if m.abandon() {
		return
	}
	if m.stopping && m.claim.Kind == ClaimStop && !m.unknown {
		m.refuseStop(e.Why)
		return
	}
	if m.stopping {
		m.do(StopWaits{e.Why})
	}
	m.report("arbiter", "%s (%s); asking again", what, e.Why)
	if m.standby.waited && m.claim.Kind != ClaimReturn {
		m.standby.waited = false
		m.do(CloseLink{}) // the primary may ask for itself
	}
	m.do(ScheduleRetry{})
}

// abandon ends a claim that would win nothing: QEMU here has ended, and the
// other host may still have the machine.
func (m *Machine) abandon() bool {
	if !m.gone || m.asked || m.claim == nil {
		return false
	}
	switch {
	case m.claim.Kind == ClaimSolo && !m.primary.ending:
		m.claim = nil
		m.giveUp("QEMU ended")
	case m.claim.Kind == ClaimTakeover:
		m.dropReplica("the waiting QEMU ended")
	default:
		return false
	}
	return true
}

func (m *Machine) retry() {
	if m.claim != nil && !m.asked {
		m.asked = true
		m.do(*m.claim)
	}
}

// refuses says why an operator's event cannot be done now; empty if it can, or is
// nobody's wish.
func (m *Machine) refuses(e Event) string {
	switch e.(type) {
	case Protect, Unprotect, SwitchoverAsked, TakeoverAsked, Stop:
	default:
		return ""
	}
	if m.stopping {
		return "the machine is being stopped"
	}
	switch e := e.(type) {
	case Protect:
		return m.refusesProtect(e)
	case Unprotect:
		return m.refusesUnprotect()
	case SwitchoverAsked:
		return m.refusesSwitchover()
	case TakeoverAsked:
		return m.refusesTakeover()
	}
	return ""
}

// fence ends this host's part as the primary: it has lost the voice.
func (m *Machine) fence(why string) {
	m.role = Fenced
	m.claim, m.asked = nil, false
	m.do(Silence{}, KillMachine{}, CloseLink{})
	m.report("fenced", "%s", why)
}
