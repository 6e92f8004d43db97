package arbiter

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
)

// ErrDamaged: a member's data is not what it had acknowledged: damaged, lost or
// older. It must be replaced: with such data it would forget votes and records.
var ErrDamaged = errors.New("its data is damaged, lost or older than what it has acknowledged; replace the member")

// mark is what a member has acknowledged, at the least. It is kept beside the
// member's directory, so that neither an emptied nor an older one passes for
// whole. It follows a second or two behind.
type mark struct {
	// Term and Index of the log are on the member's disk.
	Term, Index uint64
	// Machines are the records that stood.
	Machines map[string]stood
	// Sum is CRC-32C of the mark's JSON with a Sum of 0.
	Sum uint32
}

// stood is a record: its generation, and the token that tells it from an equal.
type stood struct {
	Generation uint64
	Claim      string
}

func (m mark) sum() uint32 {
	m.Sum = 0
	b, _ := json.Marshal(m) // numbers and text
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

func (o MemberOptions) markFile() string { return filepath.Clean(o.Dir) + ".mark" }

// readMark returns nil where there is none.
func (o MemberOptions) readMark() (*mark, error) {
	b, err := os.ReadFile(o.markFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var m mark
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil && m.Sum != m.sum() {
		err = errors.New("its checksum is wrong")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s tells what it has acknowledged and cannot be read: %w", ErrDamaged, o.markFile(), err)
	}
	return &m, nil
}

// writeMark replaces the mark; after a crash the old one or this is there.
func (o MemberOptions) writeMark(m mark) error {
	m.Sum = m.sum()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(o.markFile()), filepath.Base(o.markFile())+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), o.markFile())
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// checkData compares the directory with the mark, before etcd sees it.
func (o MemberOptions) checkData() error {
	m, err := o.readMark()
	logs := filepath.Join(o.Dir, "member", "wal")
	if !wal.Exist(logs) {
		if o.Join {
			return nil // the cluster says who it is: checkJoin
		}
		if err == nil && m != nil {
			err = fmt.Errorf("%w: %s has no log, but the member once had one: %s", ErrDamaged, o.Dir, o.replacing())
		}
		return err
	}
	if err != nil || m == nil {
		return err
	}
	term, last, err := readLog(logs)
	if err != nil {
		return fmt.Errorf("%w: read the log in %s: %w", ErrDamaged, logs, err)
	}
	if term < m.Term || last < m.Index {
		return fmt.Errorf("%w: the log in %s ends at entry %d of term %d, but entry %d of term %d was acknowledged",
			ErrDamaged, logs, last, term, m.Index, m.Term)
	}
	return nil
}

// replacing tells how a member is replaced.
func (o MemberOptions) replacing() string {
	return fmt.Sprintf("on another member remove it (etcdctl member remove), add it (etcdctl member add %s --peer-urls=%s), then let it join",
		o.Name, o.url(o.Peer))
}

// readLog returns the term and the last entry of a log.
func readLog(dir string) (term, last uint64, err error) {
	snapshots, err := wal.ValidSnapshotEntries(nil, dir)
	if err != nil {
		return 0, 0, err
	}
	from := &walpb.Snapshot{}
	if n := len(snapshots); n > 0 {
		from = snapshots[n-1]
	}
	w, err := wal.OpenForRead(nil, dir, from)
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	_, state, entries, err := w.ReadAll()
	last = from.GetIndex()
	if n := len(entries); n > 0 {
		last = entries[n-1].GetIndex()
	}
	return state.GetTerm(), last, err
}

// compare the records that stand with the mark.
func (m *mark) compare(now map[string]stood) error {
	if m == nil {
		return nil
	}
	for machine, was := range m.Machines {
		is := now[machine]
		if is.Generation < was.Generation || is.Generation == was.Generation && is.Claim != was.Claim {
			return fmt.Errorf("%w: machine %s has generation %d in it, but generation %d was acknowledged, or another record of it",
				ErrDamaged, machine, is.Generation, was.Generation)
		}
	}
	return nil
}
