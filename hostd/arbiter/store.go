package arbiter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	digits = 20 // of the largest uint64
	suffix = ".json"
	// temporary files are ".<generation>-<claim>.tmp".
	temporaryPrefix, temporarySuffix = ".", ".tmp"
	maxRecord                        = 64 << 10
)

// errBeforeLink says that a record's name was not touched.
var errBeforeLink = errors.New("nothing was recorded")

// entry is a record as it is stored. The claim's token tells one's own record
// from an equal one.
type entry struct {
	Record
	Claim string `json:"claim"`
	// Sum is CRC-32C of the entry's JSON with a Sum of 0.
	Sum uint32 `json:"crc32c"`
}

func encode(e entry) ([]byte, error) {
	var err error
	if e.Sum, err = e.sum(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(e)
	return append(b, '\n'), err
}

func (e entry) sum() (uint32, error) {
	e.Sum = 0
	b, err := json.Marshal(e)
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)), err
}

// store reads and writes the files. It has no state of its own.
type store struct {
	dir  string
	sync func(directory string) error // puts its names on stable storage
}

func (s store) machineDir(machine string) string { return filepath.Join(s.dir, machine) }

func (s store) path(machine string, generation uint64) string {
	return filepath.Join(s.machineDir(machine), fmt.Sprintf("%0*d%s", digits, generation, suffix))
}

func temporaryName(e entry) string {
	return fmt.Sprintf("%s%0*d-%s%s", temporaryPrefix, digits, e.Generation, e.Claim, temporarySuffix)
}

// generationOf reads the generation in a name. Names of another shape are not
// ours.
func generationOf(name, prefix, suffix string) (uint64, bool) {
	name, ok := strings.CutPrefix(name, prefix)
	if !ok || !strings.HasSuffix(name, suffix) || len(name) < digits {
		return 0, false
	}
	if prefix == "" && len(name) != digits+len(suffix) {
		return 0, false
	}
	generation, err := strconv.ParseUint(name[:digits], 10, 64)
	return generation, err == nil
}

// current is the entry of the highest generation.
func (s store) current(machine string) (entry, error) {
	names, err := s.names(machine)
	if err != nil {
		return entry{}, err
	}
	var highest uint64
	for _, name := range names {
		if generation, ok := generationOf(name, "", suffix); ok {
			highest = max(highest, generation)
		}
	}
	if highest == 0 {
		return entry{Record: Record{Machine: machine}}, nil
	}
	return s.read(machine, highest)
}

// names is empty for a machine without a directory.
func (s store) names(machine string) ([]string, error) {
	d, err := os.Open(s.machineDir(machine))
	if errors.Is(err, fs.ErrNotExist) {
		// An arbiter directory that has vanished must not look like one without records.
		_, err = os.Stat(s.dir)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (s store) read(machine string, generation uint64) (entry, error) {
	path := s.path(machine, generation)
	f, err := os.Open(path)
	if err != nil {
		return entry{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return entry{}, err
	}
	e, err := decode(b)
	if err == nil && (e.Machine != machine || e.Generation != generation) {
		err = fmt.Errorf("it is of machine %q, generation %d", e.Machine, e.Generation)
	}
	if err != nil {
		return entry{}, fmt.Errorf("%w %s: %w", ErrCorrupt, path, err)
	}
	return e, nil
}

func decode(b []byte) (entry, error) {
	var e entry
	if len(b) > maxRecord {
		return e, fmt.Errorf("longer than %d bytes", maxRecord)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, err
	}
	sum, err := e.sum()
	if err == nil && sum != e.Sum {
		err = fmt.Errorf("its checksum is %#x, its content has %#x", e.Sum, sum)
	}
	e.Sum = 0
	return e, err
}

// create makes an entry's file, or fails with fs.ErrExist. Unless the error is
// errBeforeLink the file may exist all the same.
func (s store) create(ctx context.Context, e entry) error {
	temporary, err := s.prepare(e)
	if temporary != "" {
		defer os.Remove(temporary)
	}
	if err == nil {
		err = ctx.Err() // nobody waits any more
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBeforeLink, err)
	}
	return os.Link(temporary, s.path(e.Machine, e.Generation))
}

// prepare writes the temporary file. It returns its path also when it failed
// after making it.
func (s store) prepare(e entry) (path string, err error) {
	if err := s.makeMachineDir(e.Machine); err != nil {
		return "", err
	}
	b, err := encode(e)
	if err != nil {
		return "", err
	}
	path = filepath.Join(s.machineDir(e.Machine), temporaryName(e))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	return path, errors.Join(err, f.Sync(), f.Close())
}

func (s store) makeMachineDir(machine string) error {
	err := os.Mkdir(s.machineDir(machine), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// settle puts a machine's names on stable storage, and the machine's own name
// with them: whoever made it may have crashed.
func (s store) settle(machine string) error {
	return errors.Join(s.sync(s.machineDir(machine)), s.sync(s.dir))
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes temporary files that a crash has left: those up to the
// generation that stands can win nothing any more. What it cannot remove is
// ignored then as before.
func (s store) sweep(machine string, stands uint64) {
	names, err := s.names(machine)
	if err != nil {
		return
	}
	for _, name := range names {
		generation, ok := generationOf(name, temporaryPrefix, temporarySuffix)
		if ok && generation <= stands {
			os.Remove(filepath.Join(s.machineDir(machine), name))
		}
	}
}
