package status

import "time"

// Claims notes that the arbiter is being asked. It stands until it has answered, however
// often that takes.
func (m *Machine) Claims(kind string) {
	m.with(func() {
		if m.claim == "" {
			m.claimed = time.Now()
		}
		m.claim = kind
	})
}

// Answered notes that the arbiter has decided.
func (m *Machine) Answered() { m.with(func() { m.claim, m.claimSaid = "", "" }) }

// Undecided notes what the arbiter said instead of an answer, and reports whether that is
// news: a claim is repeated several times a second.
func (m *Machine) Undecided(said string) bool { return replace(m, &m.claimSaid, said) }

// Unanswered is the claim that the arbiter has left unanswered, for how long, and what it
// said last; kind is empty if there is none.
func (m *Machine) Unanswered() (kind string, since time.Duration, said string) {
	m.with(func() {
		if m.claim != "" {
			kind, since, said = m.claim, time.Since(m.claimed), m.claimSaid
		}
	})
	return kind, since, said
}
