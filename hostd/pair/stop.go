package pair

// stop ends the machine on this host for good. Nothing leaves from before this
// event on, so the voice is given up by one claim from whatever role this is: one
// that is at the arbiter already is waited for first.
func (m *Machine) stop() {
	m.stopping, m.won, m.heir = true, "", ""
	switch {
	case m.role == Standby && !m.standby.decided:
		m.dropReplica("an operator stopped the standby")
	case m.role != Fenced && m.claim == nil:
		m.leaveOldPrimary()
		m.claimStop()
	}
}

// leaveOldPrimary of a machine that was taken over and is to stop: it lets frames leave at
// once as long as it hears this host, and once the machine has stopped any host may start
// it. One that has handed over is silent, and may get its machine back.
func (m *Machine) leaveOldPrimary() {
	if !m.standby.planned && (m.role == TakingOver || m.won == ClaimTakeover) {
		m.do(CloseLink{})
	}
}

func (m *Machine) claimStop() { m.ask(Claim{Kind: ClaimStop, Expect: m.generation}) }

// ended: nobody has the voice any more.
func (m *Machine) ended() {
	if m.role == Standby || m.role == TakingOver {
		m.dropReplica("an operator stopped the machine")
		return
	}
	m.fence("an operator stopped the machine")
}

// deniedStop: only the voice can stop a machine, so a record of nobody that
// follows the claim's generation is the claim's own.
func (m *Machine) deniedStop(e Denied) {
	switch expect := m.claim.Expect; {
	case e.Generation <= expect:
		m.forgetful(e)
	case e.Holder == "" && e.Generation == expect+1:
		m.granted(Granted{e.Generation})
	case e.Holder == m.host:
		m.generation = e.Generation
		m.primary.lone = m.onPrimary()
		m.claimStop()
	default:
		m.lose(e)
	}
}

// tellStop completes a stop once this host's part is over, whatever ended it.
func (m *Machine) tellStop() {
	if m.stopping && m.role == Fenced {
		m.stopping = false
		m.do(Stopped{m.heir})
	}
}

// refuseStop: the claim to stop was not made, for certain, and everything goes on
// from where it is by now.
func (m *Machine) refuseStop(why string) {
	won := m.won
	m.claim, m.stopping, m.won = nil, false, ""
	m.do(StopRefused{why})
	switch {
	case won != "" && !m.primary.lone: // else a later record, without a standby, stands
		m.carryOn(won)
	case m.role == TakingOver:
		m.resumeTakeover()
	case m.onPrimary():
		m.resumePair()
	case !m.gone:
		m.do(PassOutput{})
	}
}

// resumePair makes up for what happened to a pair while its machine was to stop. A
// first copy is given up: its output was held before its first epoch.
func (m *Machine) resumePair() {
	p := &m.primary
	switch {
	case m.gone && !p.handed && (m.role == Protected || p.lone):
		m.giveUp("QEMU ended")
	case p.lone:
		p.lone = false
		m.claimSolo()
	case m.role == Seeding:
		m.abandonSeeding("the machine was to stop")
	case p.lost:
		p.lost = false
		m.lostStandby("lost while the machine was to stop")
	case p.held:
		p.held = false
		m.commit()
	}
}

// resumeTakeover makes up for what QEMU told meanwhile.
func (m *Machine) resumeTakeover() {
	s := &m.standby
	switch {
	case m.gone || s.failure != "":
		m.failed(s.failure)
	case s.ran:
		m.live()
	}
}
