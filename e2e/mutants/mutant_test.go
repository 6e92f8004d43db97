package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutantsApply keeps the list in step with the code: each mutant changes one
// place that is there.
func TestMutantsApply(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mutants {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if _, err := m.apply(string(text)); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if seen[m.name] || m.from == m.to || len(m.tests) < 2 {
			t.Errorf("%s: named twice, changes nothing, or names no tests", m.name)
		}
		seen[m.name] = true
	}
	if least := 40; len(mutants) < least {
		t.Errorf("%d mutants, want %d and more", len(mutants), least)
	}
}

func TestNoticed(t *testing.T) {
	for said, want := range map[string]string{
		"--- FAIL: TestA (0.01s)\n    a_test.go:1: no\nFAIL\nFAIL\tx\t0.1s\n": "TestA",
		"panic: test timed out after 1s\nFAIL\tx\t1s\n":                       "a test that hangs",
		"panic: boom\n\ngoroutine 1\nFAIL\tx\t0.1s\n":                         "the end of the test's process",
	} {
		if by, err := noticed(said); by != want || err != nil {
			t.Errorf("%q: got %q, %v", said, by, err)
		}
	}
	if _, err := noticed("# x\n./x.go:1: undefined\nFAIL\tx [build failed]\n"); err == nil || !strings.Contains(err.Error(), "compile") {
		t.Errorf("a mutant that does not compile: %v", err)
	}
}
