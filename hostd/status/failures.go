package status

import "github.com/stillpoint-ft/stillpoint/hostd/policy"

// SetFailure notes why a protection has ended; empty forgets the last one.
func (m *Machine) SetFailure(why string) {
	m.with(func() {
		m.failure = why
		if why != "" {
			m.failures++
			m.wake()
		}
	})
}

// LastFailure is why the last protection has ended; empty if none has, or an operator has
// given a command since.
func (m *Machine) LastFailure() string { return read(m, &m.failure) }

// Failures counts them, so that a new one can be told from those before.
func (m *Machine) Failures() uint64 { return read(m, &m.failures) }

// FailedSince is the last failure, if it is later than so many; empty otherwise.
func (m *Machine) FailedSince(failures uint64) (why string) {
	m.with(func() {
		if m.failures != failures {
			why = m.failure
		}
	})
	return why
}

// Ordered notes an operator's command about the protection: what failed before it does
// not count.
func (m *Machine) Ordered() {
	m.with(func() {
		m.orders++
		m.failure, m.retryWith, m.retry = "", "", policy.Retry{}
	})
}

// Orders counts an operator's commands about the protection.
func (m *Machine) Orders() uint64 { return read(m, &m.orders) }

// SetRetry notes when a standby that has failed is tried again.
func (m *Machine) SetRetry(peer string, r policy.Retry) {
	m.with(func() { m.retryWith, m.retry = peer, r })
}

// Retry is what SetRetry has noted last.
func (m *Machine) Retry() (peer string, r policy.Retry) {
	m.with(func() { peer, r = m.retryWith, m.retry })
	return peer, r
}

// Reported notes the kind of the role machine's last report.
func (m *Machine) Reported(kind string) { replace(m, &m.lastReport, kind) }

// Report is what Reported has noted last.
func (m *Machine) Report() string { return read(m, &m.lastReport) }
