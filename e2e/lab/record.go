package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// recordsDir holds one directory for each lab that exists: what it would take
// to remove it if its maker died. The hosts' run directories are inside too,
// since the path of a unix socket must be short.
const recordsDir = "/run/stillpoint-lab"

// marker is the environment variable by which the processes of a lab are
// known. A daemon hands it on to its QEMUs.
const marker = "STILLPOINT_LAB"

// record is the directory of one lab below recordsDir. Files in it: owner and
// processes ("pid start-time" a line), directories and mounts (a path a line).
type record struct {
	name string
	mu   sync.Mutex
}

func (r *record) dir() string { return filepath.Join(recordsDir, r.name) }

// newRecord makes the record of a lab that this process owns. It must come
// before anything else of the lab.
func newRecord(name string) (*record, error) {
	r := &record{name: name}
	if err := os.MkdirAll(recordsDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.dir(), 0o755); err != nil {
		return nil, fmt.Errorf("record lab %s: %w", name, err)
	}
	self, err := FindProcess(os.Getpid())
	if err == nil {
		err = r.add("owner", self.line())
	}
	if err != nil {
		os.RemoveAll(r.dir())
		return nil, fmt.Errorf("record lab %s: %w", name, err)
	}
	return r, nil
}

func (r *record) add(file, line string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(r.dir(), file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// process records a process that the lab started.
func (r *record) process(p Process) error { return r.add("processes", p.line()) }

// directory makes a directory that goes when the lab goes.
func (r *record) directory(path string) error {
	if err := r.add("directories", path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o755)
}

// mount puts an empty file system of some bytes, in memory, on a directory
// within the lab's, until the lab goes. The mount is made in the namespace of
// this process and passes on to others as the file system around it does, so
// that removing it passes on, too.
func (r *record) mount(path string, size int64, more ...string) error {
	if err := r.add("mounts", path); err != nil {
		return err
	}
	options := strings.Join(append(more, fmt.Sprintf("size=%d,mode=0755", size)), ",")
	if err := unix.Mount("stillpoint-lab", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount a file system of %d bytes on %s: %w", size, path, err)
	}
	return nil
}

// unmount takes away what mount made. It does not wait for those who still
// hold files there.
func (r *record) unmount() error {
	paths, err := r.lines("mounts")
	if err != nil {
		return err
	}
	for _, path := range paths {
		// A relative or torn path is not ours.
		if !filepath.IsAbs(path) || !slices.Contains(strings.Split(path, "/"), r.name) {
			continue
		}
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: not mounted
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return nil
}

func (r *record) lines(file string) ([]string, error) {
	f, err := os.Open(filepath.Join(r.dir(), file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	return lines, s.Err()
}

func (r *record) processes(file string) ([]Process, error) {
	lines, err := r.lines(file)
	if err != nil {
		return nil, err
	}
	var ps []Process
	for _, l := range lines {
		if p, err := parseProcess(l); err == nil { // a torn last line names nobody
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// running lists the processes of this lab that still run: the recorded ones,
// and those inside the given namespaces that carry the lab's marker.
func (r *record) running(spaces []inode) ([]Process, error) {
	recorded, err := r.processes("processes")
	if err != nil {
		return nil, err
	}
	var alive []Process
	seen := map[int]bool{}
	for _, p := range recorded {
		if p.Alive() && !seen[p.PID] {
			alive, seen[p.PID] = append(alive, p), true
		}
	}
	for _, id := range spaces {
		pids, err := processesIn(id)
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if seen[pid] || !carries(pid, marker+"="+r.name) {
				continue
			}
			if p, err := FindProcess(pid); err == nil {
				alive, seen[pid] = append(alive, p), true
			}
		}
	}
	return alive, nil
}

// remove the mounts and directories of the lab, the record itself last.
func (r *record) remove() error {
	if err := r.unmount(); err != nil {
		return err
	}
	dirs, err := r.lines("directories")
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		// A relative or torn path is not ours to remove.
		if !filepath.IsAbs(dirs[i]) || !strings.Contains(filepath.Base(dirs[i]), r.name) {
			continue
		}
		if err := os.RemoveAll(dirs[i]); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(r.dir()); err != nil {
		return err
	}
	os.Remove(recordsDir) // succeeds for the last lab only
	return nil
}

func (p Process) line() string { return fmt.Sprintf("%d %d", p.PID, p.Started) }

func parseProcess(line string) (Process, error) {
	pid, started, ok := strings.Cut(line, " ")
	if !ok {
		return Process{}, fmt.Errorf("process %q: want pid and start time", line)
	}
	p, err := strconv.Atoi(pid)
	if err != nil {
		return Process{}, err
	}
	s, err := strconv.ParseUint(started, 10, 64)
	return Process{p, s}, err
}
