package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// target is one fuzz function.
type target struct{ dir, name string }

var function = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]*)\(`)

// find lists the targets below the roots, in the order of their folders and names.
func find(roots []string) (all []target, err error) {
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range function.FindAllSubmatch(text, -1) {
				all = append(all, target{filepath.Dir(path), string(m[1])})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b target) int { return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name)) })
	return all, nil
}

// input is one file of a corpus, named by a digest of what it holds.
type input struct {
	name string
	data []byte
}

// longest is what an input in the repository may measure, in bytes: longer ones find
// little that short ones do not, and are in everybody's clone for ever.
const longest = 4 << 10

// inputs reads a corpus; a folder that does not exist holds none.
func inputs(dir string) (all []input, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, input{f.Name(), data})
	}
	return all, err
}

// choose picks of what was found the shortest that are not known yet, until there are
// as many as may be.
func choose(found, known []input, most int) []input {
	fresh := slices.DeleteFunc(slices.Clone(found), func(in input) bool {
		return len(in.data) > longest || slices.ContainsFunc(known, func(k input) bool { return k.name == in.name || string(k.data) == string(in.data) })
	})
	slices.SortFunc(fresh, func(a, b input) int { return cmp.Or(len(a.data)-len(b.data), cmp.Compare(a.name, b.name)) })
	return fresh[:max(0, min(len(fresh), most-len(known)))]
}

var lastLine = regexp.MustCompile(`execs: \d+ .*`)

// progress is the last that go test told of how far it had come.
func progress(said string) string {
	all := lastLine.FindAllString(said, -1)
	if len(all) == 0 {
		return "told nothing"
	}
	return all[len(all)-1]
}
