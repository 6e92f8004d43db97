package pair

func (m *Machine) stepStandby(e Event) {
	switch e := e.(type) {
	case RoleGranted:
		m.named(e)
	case EpochStored:
		m.store(e)
	case LinkLost:
		m.decide(ClaimTakeover, "the primary on host "+m.peer+" is lost: "+e.Why)
	case PeerMachineLost:
		m.decide(ClaimTakeover, "QEMU on host "+m.peer+" is lost: "+e.Why)
	case TakeoverAsked:
		m.takeoverAsked()
	case HandedOver:
		m.handedOver(e)
	case Running:
		m.live()
	case TakeoverFailed:
		m.failed(e.Why)
	case MachineLost:
		if !m.gone {
			m.gone = true
			m.failed(e.Why)
		}
	case StandbyDropped:
		m.dropped(e)
	}
}

func (m *Machine) dropped(e StandbyDropped) {
	switch {
	case m.role != Standby || m.standby.decided:
	case e.Here:
		m.dropReplica("this host is no standby of host %s any more: %s", m.peer, e.Why)
	default:
		m.dropReplica("host %s ended the protection: %s", m.peer, e.Why)
	}
}

// become: a machine that runs here is never replaced.
func (m *Machine) become(e BecomeStandby) {
	if m.role != Unprotected || m.runs || m.gone || m.stopping || e.Primary == m.host || e.Generation < m.generation {
		return
	}
	m.role, m.peer, m.generation, m.standby = Standby, e.Primary, e.Generation, standby{}
}

func (m *Machine) named(e RoleGranted) {
	if m.role != Standby || m.standby.decided || m.standby.named || e.Generation <= m.generation {
		return
	}
	m.generation, m.standby.named = e.Generation, true
	m.report("standby", "this host may take over the machine from host %s", m.peer)
}

// store acknowledges an epoch that is held whole, unless this host has decided
// to claim: then the primary must not commit any more.
func (m *Machine) store(e EpochStored) {
	if m.role != Standby || m.standby.decided || e.Epoch <= m.standby.stored {
		return
	}
	m.standby.stored = e.Epoch
	m.do(Ack{e.Epoch})
}

func (m *Machine) refusesTakeover() string {
	switch {
	case m.role != Standby && m.role != TakingOver:
		return "the machine is " + string(m.role) + ": only a standby can take over"
	case m.standby.stored == 0:
		return "no whole epoch is held here yet; there is nothing to take over"
	}
	return ""
}

// takeoverAsked changes nothing where a takeover is under way already.
func (m *Machine) takeoverAsked() {
	if m.role == Standby && !m.standby.decided {
		m.standby.waited = true
		m.decide(ClaimTakeover, "an operator asked")
	}
}

// handedOver: the primary has stopped its guest for good, if the epoch is the
// one held here. If not, it goes on: its arbiter tells it that it may.
func (m *Machine) handedOver(e HandedOver) {
	if m.role != Standby || m.standby.decided {
		return
	}
	if e.Epoch != m.standby.stored {
		m.dropReplica("host %s hands over epoch %d, and epoch %d is held here", m.peer, e.Epoch, m.standby.stored)
		return
	}
	m.standby.planned, m.standby.waited = true, true
	m.decide(ClaimHandover, "host "+m.peer+" hands over")
}

// decide claims the machine, once.
func (m *Machine) decide(k Kind, why string) {
	if m.role != Standby || m.standby.decided {
		return
	}
	if m.standby.stored == 0 {
		m.dropReplica("no whole epoch is held here: %s", why)
		return
	}
	m.standby.decided = true
	kind := "link-lost"
	if m.standby.waited {
		kind = "taking-over"
	}
	m.report(kind, "%s; claiming the machine", why)
	m.ask(Claim{Kind: k, Expect: m.expected(), Voice: m.host})
}

// expected is the generation that names this host the standby. Before the
// primary has told it, it can only be the one after its preparation.
func (m *Machine) expected() uint64 {
	if m.standby.named {
		return m.generation
	}
	return m.generation + 1
}

func (m *Machine) takeOver() {
	m.role = TakingOver
	if m.gone {
		m.failed("QEMU on this host has ended")
		return
	}
	m.report("taking-over", "the arbiter granted generation %d; running from epoch %d", m.generation, m.standby.stored)
	m.do(TakeOver{})
}

// live: the machine runs here, unless it has been given up meanwhile.
func (m *Machine) live() {
	if m.role != TakingOver || m.gone {
		return
	}
	if m.claim != nil {
		m.standby.ran = m.stopping
		return
	}
	m.role, m.runs, m.standby, m.peer = Solo, true, standby{}, ""
	m.do(GoLive{})
	m.report("solo", "the machine runs here alone (generation %d)", m.generation)
}

// failed: the waiting QEMU cannot run the machine. In a planned switch-over the
// primary still has it, stopped, and gets its voice back.
func (m *Machine) failed(why string) {
	switch {
	case m.claim != nil:
		m.standby.failure = why
		m.abandon() // or the answer comes first
	case m.role == TakingOver && m.standby.planned:
		m.report("error", "the takeover failed: %s; host %s gets the machine back", why, m.peer)
		m.ask(Claim{Kind: ClaimReturn, Expect: m.generation, Voice: m.peer})
	case m.role == TakingOver:
		m.report("error", "the takeover failed: %s", why)
		m.dropReplica("the machine is lost")
	case m.gone:
		m.dropReplica("the waiting QEMU ended: %s", why)
	}
}

// dropReplica ends this host's part as the standby.
func (m *Machine) dropReplica(format string, args ...any) {
	m.role = Fenced
	m.claim, m.asked = nil, false
	m.do(Silence{}, DropReplica{}, CloseLink{})
	m.report("fenced", format, args...)
}
