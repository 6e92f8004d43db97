package daemon

import (
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// board is what others may know of a guest while its run loop is at work.
type board struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change of role
	started time.Time

	roleName, peerName, qemuVersion string
	standby                         string // the host that is to protect the machine
	generationNo                    uint64
	failure                         string // why the last protection ended
	failures                        uint64 // how many there have been
	orders                          uint64 // an operator's commands about its protection
	retryWith                       string // the standby with which a first copy has failed last
	retry                           policy.Retry
	lastReport                      string      // its kind
	unsaved                         string      // why the saved state is an older one
	there                           []gate.Link // of the standby
	claim                           string      // what the arbiter has not answered
	claimed                         time.Time
	claimSaid                       string // what it said instead, last

	committed, replicaEpoch, checkpoints uint64
	skippedCount, tornCount, replayed    uint64
	dirtyBytes, bytesShipped             uint64
	last                                 *control.Checkpoint
	pause, quiesce, commit               samples
	scrubs, scrubbedPages, wrongPages    uint64
	lastScrub                            time.Time
}

func (b *board) init(role string) {
	b.changed, b.roleName, b.started = make(chan struct{}), role, time.Now()
}

func (b *board) setRole(role string, generation uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if role == b.roleName && generation == b.generationNo {
		return
	}
	b.roleName, b.generationNo = role, generation
	b.claim, b.claimSaid = "", ""
	b.wake()
}

// note that something has changed which is not on the board.
func (b *board) note() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake()
}

func (b *board) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) setFailure(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failure = why
	if why != "" {
		b.failures++
		b.wake()
	}
}

// ordered notes an operator's command about the protection: what failed before it does
// not count.
func (b *board) ordered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders++
	b.failure, b.retryWith, b.retry = "", "", policy.Retry{}
}

func (b *board) ordersNow() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.orders
}

// setRetry notes when a standby that has failed is tried again.
func (b *board) setRetry(peer string, r policy.Retry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retryWith, b.retry = peer, r
}

func (b *board) retryNow() (peer string, r policy.Retry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retryWith, b.retry
}

// setUnsaved reports whether that is news.
func (b *board) setUnsaved(why string) bool {
	return b.changes(&b.unsaved, why)
}

// changes a field, and reports whether it was another.
func (b *board) changes(field *string, now string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := *field
	*field = now
	return was != now
}

func (b *board) unsavedNow() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unsaved
}

// failuresNow counts failures, so that whoever waits can tell a new one.
func (b *board) failuresNow() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures
}

// failedSince is the last failure, if it is later than so many; empty otherwise.
func (b *board) failedSince(failures uint64) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == failures {
		return ""
	}
	return b.failure
}

// reported notes the kind of the last report; report tells it.
func (b *board) reported(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastReport = kind
}

func (b *board) report() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastReport
}

func (b *board) role() (name string, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roleName, b.changed
}

func (b *board) roleNow() (string, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roleName, b.generationNo
}

func (b *board) lastFailure() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure
}

func (b *board) generation() uint64 { _, n := b.roleNow(); return n }

func (b *board) setPeer(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peerName = name
}

func (b *board) peer() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peerName
}

// want reports whether it is another standby than before.
func (b *board) want(standby string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := b.standby != standby
	b.standby = standby
	return changed
}

func (b *board) wanted() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.standby
}

func (b *board) setQEMU(version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.qemuVersion = version
}

func (b *board) epoch() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.committed
}

func (b *board) committedTo(epoch uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.committed = epoch
}

func (b *board) stored(epoch uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicaEpoch = epoch
}

// claims notes that the arbiter is being asked. It stands until it has answered,
// however often that takes.
func (b *board) claims(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.claim == "" {
		b.claimed = time.Now()
	}
	b.claim = kind
}

func (b *board) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claim, b.claimSaid = "", ""
}

// undecided notes what the arbiter said instead of an answer, and reports whether that
// is news: a claim is repeated several times a second.
func (b *board) undecided(said string) bool {
	return b.changes(&b.claimSaid, said)
}

// unanswered is the claim that the arbiter has left unanswered, for how long, and what
// it said last; kind is empty if there is none.
func (b *board) unanswered() (kind string, since time.Duration, said string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.claim == "" {
		return "", 0, ""
	}
	return b.claim, time.Since(b.claimed), b.claimSaid
}

// replay counts input that a takeover handed in again or late.
func (b *board) replay(frames int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replayed += uint64(frames)
}

func (b *board) skipped() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skippedCount++
}

// tear counts a torn checkpoint, and says how many there were.
func (b *board) tear() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tornCount++
	return b.tornCount
}

func (b *board) torn() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tornCount
}

func (b *board) checkpoint(c *control.Checkpoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.committed, b.last = c.Epoch, c
	b.checkpoints++
	b.dirtyBytes += c.Bytes
	b.bytesShipped += c.WireBytes
	b.pause.add(time.Duration(c.PauseUs) * time.Microsecond)
	b.quiesce.add(time.Duration(c.QuiesceUs) * time.Microsecond)
	b.commit.add(time.Duration(c.CommitUs) * time.Microsecond)
}

// fill copies the board into a status.
func (b *board) fill(m *control.Machine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m.Role, m.Peer, m.Generation, m.QemuVersion = b.roleName, b.peerName, b.generationNo, b.qemuVersion
	m.Epoch, m.ReplicaEpoch, m.Checkpoints = b.committed, b.replicaEpoch, b.checkpoints
	m.DirtyBytes, m.BytesShipped = b.dirtyBytes, b.bytesShipped
	m.PauseUs, m.QuiesceUs, m.CommitUs = b.pause.quantiles(), b.quiesce.quantiles(), b.commit.quantiles()
	m.Input.Replayed, m.WantedStandby = b.replayed, b.standby
	m.UptimeSeconds = uint64(time.Since(b.started).Seconds())
	if b.scrubs > 0 {
		m.Scrubs = &control.Scrubs{Runs: b.scrubs, Pages: b.scrubbedPages, WrongPages: b.wrongPages, LastUnixNanos: b.lastScrub.UnixNano()}
	}
	if b.last != nil {
		m.DirtyPages = b.last.Pages
	}
}

func (b *board) lastForced() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last != nil && b.last.Forced
}
