package main

// Packages whose tests judge a mutant.
var (
	pairTests      = []string{".", "./hostd/pair"}
	replicaTests   = []string{".", "./hostd/replica"}
	directoryTests = []string{"Directory|Contract|Claim|Record|Creation", "./hostd/arbiter"}
	voiceTests     = []string{".", "./hostd/voice"}
	gateTests      = []string{".", "./hostd/gate"}
	quiesceTests   = []string{".", "./hostd/quiesce"}
	memberTests    = []string{"Member|Mark|Damage|Empt|Older", "./hostd/arbiter"}
	stopTests      = []string{"Door", "./hostd/daemon"}
	tornTests      = []string{"Torn", "./hostd/daemon", "./hostd/primary"}
	lateTests      = []string{"LandsLate", "./hostd/sim"}
	heirTests      = []string{"Heir", "./hostd/voice"}
	pairingTests   = []string{"AnotherDetectionLimit|WhatAStopRefused", "./hostd/daemon"}
	stallTests     = []string{"TestAQEMUThatHangs", "./hostd/primary"}
	simulation     = []string{"Simulation", "./hostd/sim", "-sim.runs", "3000"}
)

// mutants are the places that docs/safety.md rests on, each broken once.
var mutants = []mutant{
	// One voice: who may claim, and what an answer means.
	{"a standby acknowledges after it has decided to claim", "hostd/pair/standby.go",
		"if m.role != Standby || m.standby.decided || e.Epoch <= m.standby.stored {", "if m.role != Standby || e.Epoch <= m.standby.stored {", pairTests},
	{"a standby claims without an epoch", "hostd/pair/standby.go",
		"if m.standby.stored == 0 {\n\t\tm.dropReplica(\"no whole epoch", "if false {\n\t\tm.dropReplica(\"no whole epoch", pairTests},
	{"a hand-over of another epoch than the one held is taken", "hostd/pair/standby.go",
		"if e.Epoch != m.standby.stored {", "if false {", pairTests},
	{"a failed planned takeover keeps the voice", "hostd/pair/standby.go",
		"m.ask(Claim{Kind: ClaimReturn, Expect: m.generation, Voice: m.peer})", "m.dropReplica(\"the machine is lost\")", pairTests},
	{"a standby goes live although it was given up", "hostd/pair/standby.go",
		"if m.claim != nil {\n\t\tm.standby.ran = m.stopping\n\t\treturn\n\t}", "m.standby.ran = m.stopping", pairTests},
	{"a primary goes on alone without the arbiter", "hostd/pair/primary.go",
		"m.report(\"link-lost\", \"the standby on host %s is lost: %s\", m.peer, why)\n\t\tm.claimSolo()", "m.report(\"link-lost\", \"the standby on host %s is lost: %s\", m.peer, why)\n\t\tm.alone()", pairTests},
	{"output is released before the standby is named", "hostd/pair/primary.go",
		"case m.claim == nil:\n\t\tm.claimPair()", "case m.claim == nil:\n\t\tm.commit()\n\t\tm.claimPair()", pairTests},
	{"an acknowledgement of what was not captured counts", "hostd/pair/primary.go",
		"p.handed || e.Epoch > p.captured ||", "p.handed ||", pairTests},
	{"a pair begins although the link has ended", "hostd/pair/primary.go",
		"case p.lost || p.ending:", "case p.ending:", pairTests},
	{"a primary whose QEMU has ended claims the machine", "hostd/pair/primary.go",
		"case m.role == Protected:\n\t\tm.giveUp(e.Why)", "case m.role == Protected:\n\t\tm.claimSolo()", pairTests},
	{"a primary ignores that its standby took over", "hostd/pair/primary.go",
		"m.do(Silence{}, EndInput{}, KillMachine{})", "m.do(EndInput{})", pairTests},
	{"a switch-over hands over before the last epoch is acknowledged", "hostd/pair/primary.go",
		"if p.acked == p.last && m.claim == nil {", "if p.switching && m.claim == nil {", pairTests},
	{"a denied claim leaves the primary with its voice", "hostd/pair/machine.go",
		"m.do(Silence{}, KillMachine{}, CloseLink{})", "m.do(CloseLink{})", pairTests},
	{"the answer to an older claim grants a newer one", "hostd/pair/machine.go",
		"if m.claim == nil || !m.asked || e.Generation != m.claim.Expect+1 {", "if m.claim == nil || !m.asked {", pairTests},
	{"a claim that was not answered is given up for another", "hostd/pair/machine.go",
		"m.asked, m.unknown = false, m.unknown || !e.NotMade\n", "m.asked, m.claim = false, nil\n\treturn\n", pairTests},

	{"an epoch that is acknowledged while the machine stops is released", "hostd/pair/primary.go",
		"case m.role == Protected && m.stopping:\n\t\tp.held = true", "case m.role == Protected && m.stopping:\n\t\tm.commit()", pairTests},
	{"a grant that meets a stop is acted upon", "hostd/pair/machine.go",
		"if m.stopping && kind != ClaimStop && kind != ClaimReturn {", "if false {", pairTests},

	// Whole epochs only.
	{"an epoch with fewer pages than announced is whole", "hostd/replica/replica.go",
		"if e.pages > e.begin.Pages {", "if false {", replicaTests},
	{"epochs are taken in any order", "hostd/replica/replica.go",
		"if r.staged.state != empty || number <= r.applied || r.blocks == nil {", "if r.staged.state != empty || r.blocks == nil {", replicaTests},
	{"a first copy spoils a committed epoch", "hostd/replica/replica.go",
		"if r.applied != 0 || r.staged.state != empty {", "if r.staged.state != empty {", replicaTests},
	{"device state that is not whole is taken", "hostd/replica/replica.go",
		"if e.deviceParts != uint64(len(e.device)/pageSize) {", "if false {", replicaTests},
	{"the device state of an epoch begins with zeros instead of the last one's", "hostd/replica/replica.go",
		"known := min(len(last), size)", "known := 0 * len(last)", replicaTests},

	// The arbiter.
	{"a record whose checksum is wrong is believed", "hostd/arbiter/store.go",
		"if err == nil && sum != e.Sum {", "if false {", directoryTests},
	{"an arbiter's directory that has vanished looks like one without records", "hostd/arbiter/store.go",
		"_, err = os.Stat(s.dir)\n\t\treturn nil, err", "return nil, nil", directoryTests},
	{"two claims on one generation win", "hostd/arbiter/store.go",
		"return os.Link(temporary, s.path(e.Machine, e.Generation))", "return os.Rename(temporary, s.path(e.Machine, e.Generation))", directoryTests},
	{"a claim follows another generation than it names", "hostd/arbiter/directory.go",
		"if stands.Generation != expect {\n\t\treturn entry{}, &LostError", "if stands.Generation > expect+1 {\n\t\treturn entry{}, &LostError", directoryTests},
	{"an answer is given before the record is on stable storage", "hostd/arbiter/directory.go",
		"return entry{}, fmt.Errorf(\"%w: %w\", ErrOutcomeUnknown, err)\n\t}\n\treturn e, nil", "return e, nil\n\t}\n\treturn e, nil", directoryTests},

	// One moment of the guest.
	{"an epoch in which the agent's channel moved counts as still", "hostd/quiesce/still.go",
		"return unread(st.conn) == st.unread && unheard(st.conn) == st.unheard", "return true", quiesceTests},

	// The door.
	{"a stop leaves the door open", "hostd/voice/door.go",
		"if !d.granted || d.stopped {", "if !d.granted {", voiceTests},
	{"whoever has no voice speaks", "hostd/voice/door.go",
		"d.generation, d.granted = r.Generation, r.Voice == d.host", "d.generation, d.granted = r.Generation, true", voiceTests},
	{"an old record opens the door again", "hostd/voice/door.go",
		"if r.Generation >= d.generation {", "if true {", voiceTests},
	{"the door closes while somebody speaks", "hostd/voice/door.go",
		"func (d *Door) Stop() {\n\td.mu.Lock()\n\tdefer d.mu.Unlock()\n\td.stopped = true", "func (d *Door) Stop() {\n\td.mu.RLock()\n\tdefer d.mu.RUnlock()\n\td.stopped = true", voiceTests},
	{"a host that is not named takes over", "hostd/voice/claim.go",
		"return stands.Standby == c.Host", "return true", voiceTests},
	{"a machine is started that another host speaks for", "hostd/voice/claim.go",
		"if stands.Voice != \"\" && stands.Voice != host {", "if false {", voiceTests},
	{"a daemon adopts a machine without ending its pair", "hostd/voice/claim.go",
		"if stands.Standby != \"\" {\n\t\tkind = Solo", "if false {\n\t\tkind = Solo", voiceTests},
	{"an arbiter that has forgotten is believed", "hostd/voice/claim.go",
		"return stands.Generation == 0 || stands.Generation < known", "return false", voiceTests},

	// Output commit.
	{"frames leave after silence", "hostd/gate/egress.go",
		"if g.out.ended || port < 0 || port >= len(g.ports) {", "if port < 0 || port >= len(g.ports) {", gateTests},
	{"what waits for an uplink survives silence", "hostd/gate/output.go",
		"g.out.mode, g.out.ended = silent, true\n\tg.forgetWaiting()", "g.out.mode, g.out.ended = silent, true", gateTests},
	{"what waits for an uplink leaves although output is held", "hostd/gate/egress.go",
		"if e.Len() == 0 || g.out.withheld {", "if e.Len() == 0 {", gateTests},
	{"epochs that are not committed are released", "hostd/gate/output.go",
		"if len(g.out.cut) == 0 || g.out.cut[0].Epoch > epoch {", "if len(g.out.cut) == 0 {", gateTests},
	{"a release goes on after its time", "hostd/gate/output.go",
		"if !time.Now().Before(until) {\n\t\treturn true, false", "if false {\n\t\treturn true, false", gateTests},
	{"a cut leaves the last frames of its epoch to the next", "hostd/gate/output.go",
		"p.tap.Now(p.drain)", "_ = p", gateTests},
	{"the first cut of a protection goes on passing", "hostd/gate/output.go",
		"g.out.mode = committing", "g.out.mode = passing", gateTests},
	{"a stopped guest is handed frames", "hostd/gate/input.go",
		"g.in.mode = waiting\n\tg.stopClocks()", "g.stopClocks()", gateTests},
	{"frames that QEMU has not taken count as the guest's", "hostd/gate/input.go",
		"if p.flight.Len() == 0 && waiting == 0 {", "if true {", gateTests},
	{"a tap that is gone ends the protection", "hostd/gate/input.go",
		"if errors.Is(err, ErrGone) {", "if false {", gateTests},
	{"a frame is handed in before the standby has it", "hostd/gate/feed.go",
		"if g.in.log == LogSync {\n\t\treturn g.in.stored\n\t}\n\treturn math.MaxUint64", "return math.MaxUint64", gateTests},
	{"a stop costs the packets that QEMU has not handed over", "hostd/gate/taken.go",
		"left += p.flight.Len()", "left += 0", gateTests},

	// The daemon, which joins them.
	{"a primary that is fenced lets its output pass", "hostd/daemon/effects.go",
		"\t\tg.gate.Silence()", "\t\tg.gate.Pass()", simulation},
	{"a committed epoch is released past the door", "hostd/daemon/voice.go",
		"spoken = g.door.Speak(func() { all = g.gate.Release(epoch, until) })", "all, spoken = g.gate.Release(epoch, until), true", stopTests},
	{"a takeover speaks past the door", "hostd/daemon/voice.go",
		"func (g *guest) beginToSpeak(s *standby.Session) bool {\n\treturn g.door.Speak(func() {", "func (g *guest) beginToSpeak(s *standby.Session) bool {\n\treturn func(speak func()) bool { speak(); return true }(func() {", stopTests},
	{"an heir gives the voice up while its old primary may be heard", "hostd/voice/host.go",
		"if c.Kind == Stopped {", "if false {", heirTests},
	{"an heir starts the machine anew while its old primary may be heard", "hostd/voice/host.go",
		"\t\th.Outlast(ctx, machine)\n\t}\n\treturn stands", "\t}\n\treturn stands", heirTests},
	{"a takeover is no past that has to be outlasted", "hostd/voice/heirs.go",
		"if r.Voice != h.host || r.Kind != Takeover && r.Kind != Handover {", "if r.Kind != Started {", heirTests},
	{"a takeover that landed late is no past", "hostd/voice/host.go",
		"\t\th.stands(machine, r)\n", "", lateTests},
	{"an heir outlasts its old primary by another time than that speaks for", "hostd/compat/compat.go",
		"if here == there {", "if true {", pairingTests},
	{"what a stop refused leaves uncommitted", "hostd/daemon/voice.go",
		"!all || role != pair.Protected", "true || !all", pairingTests},
	{"a torn checkpoint counts as whole", "hostd/primary/checkpoint.go",
		"t.torn = !unbroken()", "t.torn = !unbroken() && false", tornTests},
	{"what a guest said in a torn checkpoint is forgotten", "hostd/primary/torn.go",
		"p.outputs = t.output", "p.outputs = nil", tornTests},
	{"a QEMU whose machine nobody else holds is ended", "hostd/primary/watchdog.go",
		"return role == pair.Protected && p.acked.Load() > 0", "return role != \"\"", stallTests},
	{"what a takeover hands in comes after what arrived", "hostd/gate/feed.go",
		"if g.mayInject() {\n\t\tp.blocked", "if g.mayInject() && p.lane.Waiting() == 0 {\n\t\tp.blocked", gateTests},
	{"an epoch whose digest is another is stored", "hostd/replica/sums.go",
		"if memory != e.digest.Memory {", "if false {", replicaTests},
	{"a mark of what a member has acknowledged is not looked at", "hostd/arbiter/mark.go",
		"m, err := o.readMark()\n\tlogs", "m, err := (*mark)(nil), error(nil)\n\tlogs", memberTests},
}
