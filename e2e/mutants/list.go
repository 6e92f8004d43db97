package main

// Packages whose tests judge a mutant.
var (
	pairTests      = []string{".", "./hostd/pair"}
	replicaTests   = []string{".", "./hostd/replica"}
	directoryTests = []string{"Directory|Contract|Claim|Record|Creation", "./hostd/arbiter"}
	quiesceTests   = []string{".", "./hostd/quiesce"}
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
		"if m.role != TakingOver || m.claim != nil || m.gone {", "if m.role != TakingOver {", pairTests},
	{"a primary goes on alone without the arbiter", "hostd/pair/primary.go",
		"m.report(\"link-lost\", \"the standby on host %s is lost: %s\", m.peer, why)\n\t\tm.claimSolo()", "m.report(\"link-lost\", \"the standby on host %s is lost: %s\", m.peer, why)\n\t\tm.alone()", pairTests},
	{"output is released before the standby is named", "hostd/pair/primary.go",
		"case m.claim == nil:\n\t\tm.ask(Claim{Kind: ClaimPair", "case m.claim == nil:\n\t\tm.commit()\n\t\tm.ask(Claim{Kind: ClaimPair", pairTests},
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
		"m.asked = false\n\tif m.abandon() {", "m.asked, m.claim = false, nil\n\tif m.abandon() {", pairTests},

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
}
