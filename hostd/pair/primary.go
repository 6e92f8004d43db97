package pair

func (m *Machine) stepPrimary(e Event) {
	switch e := e.(type) {
	case Started:
		m.start(e)
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
		m.switchOver()
	case PeerTookOver:
		m.moved(e)
	}
}

func (m *Machine) start(e Started) {
	if m.role != Unprotected || m.runs || m.stopping || e.Generation < m.generation {
		return
	}
	m.runs, m.generation = true, e.Generation
	if e.Solo {
		m.role = Solo
	}
}

func (m *Machine) refusesProtect(e Protect) string {
	switch {
	case m.role != Unprotected && m.role != Solo:
		return "the machine is " + string(m.role)
	case !m.runs:
		return "the machine does not run here"
	case m.gone:
		return "its QEMU has ended; stop the machine and start it again"
	case e.Standby == m.host:
		return "a host cannot be its own standby"
	}
	return ""
}

func (m *Machine) protect(e Protect) {
	m.primary = primary{from: m.role}
	m.role, m.peer = Seeding, e.Standby
	m.do(ConnectStandby{e.Standby})
}

func (m *Machine) refusesSwitchover() string {
	switch {
	case m.role != Protected:
		return "the machine is " + string(m.role) + ": only a protected machine can be switched over"
	case m.gone:
		return "its QEMU has ended"
	case m.primary.switching:
		return "a switch-over is under way already"
	case m.claim != nil:
		return "the machine leaves its standby, and waits for the arbiter's answer"
	}
	return ""
}

// switchOver asks for one more epoch, after which the guest stays stopped.
func (m *Machine) switchOver() {
	m.primary.switching = true
	m.report("switchover", "the machine moves to host %s", m.peer)
	m.do(LastEpoch{})
}

// capture: after the last epoch there is no other, and an epoch that nobody
// asked to be the last is not taken for it.
func (m *Machine) capture(e EpochCaptured) {
	p := &m.primary
	if !m.onPrimary() || m.gone || e.Epoch <= p.captured || p.last > 0 || e.Last && !p.switching {
		return
	}
	p.captured = e.Epoch
	if e.Last {
		p.last = e.Epoch
	}
	m.do(Ship{e.Epoch})
}

// ack: the epoch is committed. The first one completes the standby, which is
// then named at the arbiter before any output that waits for it is released.
func (m *Machine) ack(e EpochAcked) {
	p := &m.primary
	if !m.onPrimary() || m.gone || p.handed || e.Epoch > p.captured || e.Epoch <= p.acked {
		return
	}
	p.acked = e.Epoch
	switch {
	case m.role == Protected && m.stopping:
		p.held = true
	case m.role == Protected:
		m.commit()
	case m.claim == nil:
		m.claimPair()
	}
}

func (m *Machine) claimPair() {
	m.ask(Claim{Kind: ClaimPair, Expect: m.generation, Voice: m.host, Standby: m.peer})
}

// commit releases what the standby holds, and hands over after the last epoch
// of a switch-over. The guest is stopped by then and nothing of it is held.
func (m *Machine) commit() {
	p := &m.primary
	m.do(Release{p.acked})
	if p.acked == p.last && m.claim == nil {
		p.handed = true
		m.do(HandOver{p.acked}, ForwardInput{})
	}
}

// paired: the arbiter names the standby. What happened meanwhile is made up
// for.
func (m *Machine) paired() {
	p := &m.primary
	m.role = Protected
	switch {
	case m.gone && !p.ending:
		m.do(NotifyRole{m.generation})
		m.giveUp("QEMU ended")
	case p.lost || p.ending:
		m.claimSolo()
	default:
		m.do(NotifyRole{m.generation})
		m.commit()
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
	case m.role == Seeding, m.role == Protected && m.stopping:
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
	m.role = m.primary.from
	m.primary, m.peer = primary{}, ""
	if m.gone {
		m.do(Silence{}, CloseLink{})
		m.report("machine-lost", "QEMU ended: %s", why)
		return
	}
	m.do(PassOutput{}, LeaveCOLO{}, CloseLink{})
	m.report("error", "the machine could not be protected and runs on here: %s", why)
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
	case m.claim != nil:
		m.abandon() // or the answer comes first
	case m.primary.handed:
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

func (m *Machine) refusesUnprotect() string {
	switch {
	case !m.onPrimary():
		return "the machine is " + string(m.role) + ": there is no protection to end"
	case m.primary.switching:
		return "a switch-over is under way"
	}
	return ""
}

func (m *Machine) unprotect() {
	switch {
	case m.role == Seeding && m.claim == nil:
		m.abandonSeeding("an operator ended the protection")
	case m.role == Seeding:
		m.primary.ending = true
	case m.claim == nil:
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
	m.generation, m.heir = e.Generation, m.peer
	m.claim, m.asked = nil, false
	if m.role == Fenced {
		m.do(EndInput{})
		return
	}
	m.role = Fenced
	m.do(Silence{}, EndInput{}, KillMachine{})
	m.report("fenced", "host %s runs the machine", m.peer)
}
