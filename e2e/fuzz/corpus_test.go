package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestFindTargets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b/x_test.go": "package b\nfunc FuzzTwo(f *testing.F) {}\nfunc FuzzOne(f *testing.F) {}\n",
		"a/y_test.go": "package a\n// func FuzzNot(f)\nfunc TestFuzz(t *testing.T) {}\nfunc FuzzA(f *testing.F) {}\n",
		"a/z.go":      "package a\nfunc FuzzNoTest(f *testing.F) {}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := find([]string{dir})
	want := []target{{filepath.Join(dir, "a"), "FuzzA"}, {filepath.Join(dir, "b"), "FuzzOne"}, {filepath.Join(dir, "b"), "FuzzTwo"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestChooseTakesTheShortestNewOnesUpToTheBound(t *testing.T) {
	known := []input{{"k", []byte("known")}}
	found := []input{{"long", []byte(strings.Repeat("x", longest+1))}, {"c", []byte("ccc")}, {"k", []byte("known")}, {"same", []byte("known")}, {"a", []byte("a")}, {"b", []byte("bb")}}
	if got := choose(found, known, 3); len(got) != 2 || got[0].name != "a" || got[1].name != "b" {
		t.Errorf("got %v", got)
	}
	if got := choose(found, known, 1); len(got) != 0 {
		t.Errorf("the corpus is full, and got %v", got)
	}
	if got := choose(found, known, 100); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func TestProgress(t *testing.T) {
	said := "fuzz: elapsed: 0s, gathering baseline coverage: 0/7 completed\nfuzz: elapsed: 3s, execs: 325 (108/sec), new interesting: 1 (total: 8)\nfuzz: elapsed: 5s, execs: 900 (100/sec), new interesting: 3 (total: 10)\nPASS\n"
	if got := progress(said); got != "execs: 900 (100/sec), new interesting: 3 (total: 10)" {
		t.Errorf("got %q", got)
	}
	if got := progress("FAIL"); got != "told nothing" {
		t.Errorf("got %q", got)
	}
}
