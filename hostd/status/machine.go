package status

import (
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
)

// Left is shown as the role of a machine of an earlier daemon that waits, silent.
const Left pair.Role = "left"

// Machine is the state of one machine. Its methods may be called concurrently, and none
// waits for anything.
type Machine struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change that somebody may wait for
	started time.Time

	role        pair.Role
	generation  uint64
	peer        string
	qemuVersion string
	wanted      string // the host that is to protect the machine
	unsaved     string // why the saved state is an older one

	failure    string // why the last protection ended
	failures   uint64 // how many there have been
	orders     uint64 // an operator's commands about its protection
	retryWith  string // the standby with which a first copy has failed last
	retry      policy.Retry
	lastReport string // its kind

	claim     string // what the arbiter has not answered
	claimed   time.Time
	claimSaid string // what it said instead, last

	counts
}

// NewMachine has a role, and runs from now on.
func NewMachine(role pair.Role) *Machine {
	return &Machine{changed: make(chan struct{}), role: role, started: time.Now()}
}

// with runs f while nobody else reads or writes.
func (m *Machine) with(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// read a field.
func read[T any](m *Machine, field *T) (value T) {
	m.with(func() { value = *field })
	return value
}

// replace a field, and report whether it was another.
func replace[T comparable](m *Machine, field *T, now T) (changed bool) {
	m.with(func() { changed, *field = *field != now, now })
	return changed
}

// wake those who wait for a change. The caller holds the lock.
func (m *Machine) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Note that something has changed which is not in the state.
func (m *Machine) Note() { m.with(m.wake) }

// SetRole also forgets what the arbiter has not answered: it has been decided.
func (m *Machine) SetRole(role pair.Role, generation uint64) {
	m.with(func() {
		if role == m.role && generation == m.generation {
			return
		}
		m.role, m.generation = role, generation
		m.claim, m.claimSaid = "", ""
		m.wake()
	})
}

// Role of the machine, and a channel that is closed when it changes.
func (m *Machine) Role() (role pair.Role, changed <-chan struct{}) {
	m.with(func() { role, changed = m.role, m.changed })
	return role, changed
}

// RoleNow is the role, with its generation.
func (m *Machine) RoleNow() (role pair.Role, generation uint64) {
	m.with(func() { role, generation = m.role, m.generation })
	return role, generation
}

// Generation of the last record that this host knows to have stood.
func (m *Machine) Generation() uint64 { return read(m, &m.generation) }

// SetPeer notes the other host of the pair; none if empty.
func (m *Machine) SetPeer(name string) { replace(m, &m.peer, name) }

// Peer is the other host of the pair; none if empty.
func (m *Machine) Peer() string { return read(m, &m.peer) }

// Want reports whether the standby that the machine is to have is another than before.
func (m *Machine) Want(standby string) bool { return replace(m, &m.wanted, standby) }

// Wanted is the host that is to protect the machine, also while it does not.
func (m *Machine) Wanted() string { return read(m, &m.wanted) }

// SetQEMU notes QEMU's version.
func (m *Machine) SetQEMU(version string) { replace(m, &m.qemuVersion, version) }

// SetUnsaved notes why a later daemon would know an older state, and reports whether that
// is news.
func (m *Machine) SetUnsaved(why string) bool { return replace(m, &m.unsaved, why) }

// Unsaved is why a later daemon would know an older state; empty if it would not.
func (m *Machine) Unsaved() string { return read(m, &m.unsaved) }
