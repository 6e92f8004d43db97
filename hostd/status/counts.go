package status

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// counts of a machine since it is known here.
type counts struct {
	committed, stored, checkpoints uint64
	torn, replayed                 uint64
	dirtyBytes, bytesShipped       uint64
	last                           *Checkpoint
	pause, quiesce, commit         samples
	scrubs                         Scrubs
}

// Checkpoint is what one has cost, step by step.
type Checkpoint struct {
	Epoch   uint64
	Started time.Time
	Quiesce time.Duration
	Stop    time.Duration // from the daemon's reply to QEMU's STOP
	Copy    time.Duration
	Pause   time.Duration // STOP to RESUME; 0 of the last one before a hand-over, as Total and Commit
	Total   time.Duration // arriving packets waited this long
	Commit  time.Duration // from the resume to the release of the epoch's output
	// Pages that were dirty, and those of them that are zero.
	Pages, ZeroPages uint64
	// Bytes of dirty pages that are not zero, and of device state, of which there are
	// DeviceBytes; WireBytes were sent for them.
	Bytes, DeviceBytes, WireBytes uint64
	Quiesced, Forced              bool
	OutputFrames                  uint64
}

// Scrubs of a standby's memory. Runs is 0 before the first.
type Scrubs struct {
	Runs, Pages, WrongPages uint64
	Last                    time.Time
}

// Snapshot is a copy of the state.
type Snapshot struct {
	Role                     pair.Role
	Generation               uint64
	Peer, WantedStandby      string
	QEMUVersion              string
	Epoch                    uint64 // the last committed one
	ReplicaEpoch             uint64 // standby: the last one that is held whole here
	Checkpoints, Torn        uint64
	DirtyPages               uint64 // of the last checkpoint
	DirtyBytes, BytesShipped uint64
	PauseTime, QuiesceTime   Quantiles
	CommitTime               Quantiles
	Replayed                 uint64 // frames of input that a takeover handed in again or late
	Uptime                   time.Duration
	Forced                   bool // the last checkpoint was
	Scrubs                   Scrubs
}

// Snapshot of the state now.
func (m *Machine) Snapshot() (s Snapshot) {
	m.with(func() {
		s = Snapshot{Role: m.role, Generation: m.generation, Peer: m.peer, WantedStandby: m.wanted, QEMUVersion: m.qemuVersion,
			Epoch: m.committed, ReplicaEpoch: m.stored, Checkpoints: m.checkpoints, Torn: m.torn,
			DirtyBytes: m.dirtyBytes, BytesShipped: m.bytesShipped,
			PauseTime: m.pause.quantiles(), QuiesceTime: m.quiesce.quantiles(), CommitTime: m.commit.quantiles(),
			Replayed: m.replayed, Uptime: time.Since(m.started), Scrubs: m.scrubs}
		if m.last != nil {
			s.DirtyPages, s.Forced = m.last.Pages, m.last.Forced
		}
	})
	return s
}

// Committed counts a checkpoint whose epoch is committed.
func (m *Machine) Committed(c Checkpoint) {
	m.with(func() {
		m.committed, m.last = c.Epoch, &c
		m.checkpoints++
		m.dirtyBytes += c.Bytes
		m.bytesShipped += c.WireBytes
		m.pause.add(c.Pause)
		m.quiesce.add(c.Quiesce)
		m.commit.add(c.Commit)
	})
}

// CommittedTo notes from which epoch a machine runs here.
func (m *Machine) CommittedTo(epoch uint64) { replace(m, &m.committed, epoch) }

// Epoch is the last committed one.
func (m *Machine) Epoch() uint64 { return read(m, &m.committed) }

// Stored notes the last epoch that a standby holds whole.
func (m *Machine) Stored(epoch uint64) { replace(m, &m.stored, epoch) }

// ReplicaEpoch is the last epoch that a standby holds whole.
func (m *Machine) ReplicaEpoch() uint64 { return read(m, &m.stored) }

// Replay counts frames of input that a takeover has handed in again or late.
func (m *Machine) Replay(frames int) { m.with(func() { m.replayed += uint64(frames) }) }

// Tear counts a torn checkpoint, and says how many there were.
func (m *Machine) Tear() (all uint64) {
	m.with(func() {
		m.torn++
		all = m.torn
	})
	return all
}

// Scrubbed counts a scrub of so many pages, some of them wrong.
func (m *Machine) Scrubbed(pages, wrong uint64) {
	m.with(func() {
		m.scrubs.Runs++
		m.scrubs.Pages += pages
		m.scrubs.WrongPages += wrong
		m.scrubs.Last = time.Now()
	})
}
