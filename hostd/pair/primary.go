package pair

func (m *Machine) stepPrimary(e Event) {
	switch e := e.(type) {
	case Started:
		m.generation = max(m.generation, e.Generation)
	case Protect:
		m.protect(e)
	case StandbyPrepared:
		if m.role == Seeding {
			m.report("seeding", "the first copy goes to host %s", m.peer)
			m.do(Seed{})
		}
	case SeedFailed:
		if m.role == Seeding {
			m.lostStandby(e.Why)
		}
	case EpochCaptured:
		m.capture(e)
	case EpochAcked:
		m.ack(e)
	case LinkLost:
		m.lostStandby(e.Why)
	case MachineLost:
		m.lostMachine(e)
	case Unprotect:
		m.unprotect()
	case SwitchoverAsked:
		if m.role == Protected && !m.primary.switching && m.claim == nil {
			m.primary.switching = true
			m.report("switchover", "the machine moves to host %s", m.peer)
			m.do(LastEpoch{})
		}
	case PeerTookOver:
		m.moved(e)
	}
}

func (m *Machine) protect(e Protect) {
	if m.role != Unprotected && m.role != Solo || m.gone || m.claim != nil {
		return
	}
	m.role, m.peer, m.primary = Seeding, e.Standby, primary{}
	m.do(ConnectStandby{e.Standby})
}

func (m *Machine) capture(e EpochCaptured) {
	if m.role != Seeding && m.role != Protected || e.Epoch <= m.primary.captured {
		return
	}
	m.primary.captured = e.Epoch
	if e.Last {
		m.primary.last = e.Epoch
	}
	m.do(Ship{e.Epoch})
}

// ack: the epoch is committed. The first one completes the standby, which is
// then named at the arbiter before anything waits for it.
func (m *Machine) ack(e EpochAcked) {
	p := &m.primary
	if e.Epoch != p.captured || e.Epoch <= p.acked || m.gone {
		return
	}
	switch {
	case m.role == Seeding && m.claim == nil && !p.ending:
		p.acked = e.Epoch
		m.ask(Claim{Kind: ClaimPair, Expect: m.generation, Voice: m.host, Standby: m.peer})
	case m.role == Protected:
		p.acked = e.Epoch
		m.do(Release{e.Epoch})
		if e.Epoch == p.last && m.claim == nil {
			p.handed = true
			m.do(HandOver{e.Epoch}, ForwardInput{})
		}
	}
}

// paired: the arbiter names the standby. What happened meanwhile is made up
// for.
func (m *Machine) paired() {
	p := &m.primary
	m.role = Protected
	switch {
	case p.lost || p.ending:
		m.claimSolo()
	case m.gone:
		m.do(NotifyRole{m.generation})
		m.giveUp("QEMU ended")
	default:
		m.do(NotifyRole{m.generation}, Release{p.acked})
		m.report("protected", "host %s holds epoch %d", m.peer, p.acked)
	}
}

func (m *Machine) claimSolo() {
	m.ask(Claim{Kind: ClaimSolo, Expect: m.generation, Voice: m.host})
}

// alone: no standby may take over any more, so output needs no commit.
func (m *Machine) alone() {
	if m.gone {
		m.role = Fenced
		m.do(Silence{}, CloseLink{})
		m.report("machine-lost", "QEMU ended while no standby was there to take over")
		return
	}
	m.role = Solo
	if m.primary.ending {
		m.role = Unprotected
	}
	switching := m.primary.switching
	m.primary, m.peer = primary{}, ""
	m.do(PassOutput{}, LeaveCOLO{}, CloseLink{})
	if switching {
		m.report("error", "the switch-over failed; the machine runs on here")
	}
	m.report(string(m.role), "the machine runs here alone (generation %d)", m.generation)
}

// lostStandby: the pair cannot commit any more.
func (m *Machine) lostStandby(why string) {
	switch {
	case m.role == Seeding && m.claim == nil:
		m.abandonSeeding(why)
	case m.role == Seeding:
		m.primary.lost = true
	case m.role == Protected && m.gone:
		m.fence("QEMU ended and the standby is out of reach")
	case m.role == Protected && m.claim == nil:
		m.report("link-lost", "the standby on host %s is lost: %s", m.peer, why)
		m.claimSolo()
	}
}

// abandonSeeding needs no arbiter: it never named the standby.
func (m *Machine) abandonSeeding(why string) {
	m.role = m.before()
	m.primary, m.peer = primary{}, ""
	if m.gone {
		m.do(Silence{}, CloseLink{})
		m.report("machine-lost", "QEMU ended: %s", why)
		return
	}
	m.do(PassOutput{}, LeaveCOLO{}, CloseLink{})
	m.report("error", "the machine could not be protected and runs on here: %s", why)
}

// before is the role of a machine here that has no pair.
func (m *Machine) before() Role {
	if m.generation > 0 {
		return Solo
	}
	return Unprotected
}

// lostMachine: QEMU on this host has ended. A protected machine goes on at the
// standby, so this host must not claim it.
func (m *Machine) lostMachine(e MachineLost) {
	if m.gone || m.role == Fenced {
		m.gone = true
		return
	}
	m.gone = true
	switch {
	case m.role == Seeding && m.claim == nil:
		m.abandonSeeding(e.Why)
	case m.role == Seeding, m.claim != nil, m.primary.handed:
	case m.role == Protected:
		m.giveUp(e.Why)
	default:
		m.do(Silence{})
		m.report("machine-lost", "%s; no standby was there to take over", e.Why)
	}
}

func (m *Machine) giveUp(why string) {
	m.role = Fenced
	m.do(Silence{}, NotifyMachineLost{}, ForwardInput{})
	m.report("machine-lost", "%s; the standby on host %s takes over", why, m.peer)
}

func (m *Machine) unprotect() {
	switch {
	case m.role == Seeding && m.claim == nil:
		m.abandonSeeding("an operator ended the protection")
	case m.role == Seeding:
		m.primary.ending = true
	case m.role == Protected && m.claim == nil && !m.primary.switching:
		m.primary.ending = true
		m.claimSolo()
	}
}

// moved: the standby runs the machine; this host's part is over. The link is
// the standby's to close, once it has the rest of the input.
func (m *Machine) moved(e PeerTookOver) {
	if m.role != Protected && m.role != Fenced || e.Generation <= m.generation {
		return
	}
	m.generation = e.Generation
	m.claim, m.asked = nil, false
	m.do(EndInput{})
	if m.role == Fenced {
		return
	}
	m.role = Fenced
	m.do(Silence{}, KillMachine{})
	m.report("fenced", "host %s runs the machine", m.peer)
}
