package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// nameForm is "sp-", the pid of the maker, "-", an identifier.
var nameForm = regexp.MustCompile(`^sp-([0-9]+)-[a-z0-9]+$`)

// Sweep removes what labs left behind whose makers have ended: processes,
// namespaces, mounts, directories. It returns the names of the labs removed. Labs of
// living makers are left alone.
func Sweep() ([]string, error) {
	entries, err := os.ReadDir(recordsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var swept []string
	var errs []error
	for _, e := range entries {
		r := &record{name: e.Name()}
		abandoned, err := r.abandoned()
		if err == nil && abandoned {
			if err = r.sweep(); err == nil {
				swept = append(swept, r.name)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep lab %s: %w", r.name, err))
		}
	}
	return swept, errors.Join(errs...)
}

// abandoned reports whether the maker of the lab has ended.
func (r *record) abandoned() (bool, error) {
	m := nameForm.FindStringSubmatch(r.name)
	if m == nil {
		return false, nil
	}
	owner, err := r.processes("owner")
	if err != nil {
		return false, err
	}
	if len(owner) == 1 {
		return !owner[0].Alive(), nil
	}
	// Its maker is just writing the record, or died doing so.
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return false, err
	}
	_, err = FindProcess(pid)
	return err != nil, nil
}

func (r *record) sweep() error {
	names, err := namespacesOf(r.name)
	if err != nil {
		return err
	}
	var spaces []inode
	for _, n := range names {
		if id, err := inodeOf(filepath.Join(namespaceDir, n)); err == nil {
			spaces = append(spaces, id)
		}
	}
	if err := killAll(func() ([]Process, error) { return r.running(spaces) }); err != nil {
		return err
	}
	for _, n := range names {
		if err := removeNamespace(n); err != nil {
			return err
		}
	}
	return r.remove()
}

func namespacesOf(lab string) ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), lab+"-") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
