package console

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const asKeeper = "STILLPOINT_TEST_KEEPER"

func TestMain(m *testing.M) {
	if path := os.Getenv(asKeeper); path != "" { // no file of this process has more than 32 KiB
		limit := unix.Rlimit{Cur: 32 << 10, Max: 32 << 10}
		err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
		fmt.Println(errors.Join(err, Keep(os.Stdin, options(path, Least))))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func options(path string, limit int64) Options {
	return Options{Path: path, Limit: limit, Log: hclog.NewNullLogger()}
}

func lines(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "line %10d\n", i)
	}
	return b.Bytes()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keepWords that are written to a pipe.
func keepWords(t *testing.T, path string) (w *os.File, kept <-chan error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Keep(r, options(path, Least)) }()
	if _, err := w.WriteString("words"); err != nil {
		t.Fatal(err)
	}
	return w, ended
}

// TestAFileThatIsWrittenIsLocked, until its keeper ends.
func TestAFileThatIsWrittenIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	w, kept := keepWords(t, path)
	var f *os.File
	for f == nil {
		f, _ = os.Open(path)
	}
	defer f.Close()
	for info, _ := f.Stat(); info.Size() == 0; info, _ = f.Stat() { // it is locked before it is written
	}
	if !IsKept(f) {
		t.Error("nobody can tell that it is written")
	}
	w.Close()
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	if IsKept(f) {
		t.Error("it stays locked")
	}
}

// TestAFileThatWasBegunAnew is not touched by who writes the last one: nor is its older part.
func TestAFileThatWasBegunAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w, kept := keepWords(t, path)
	for len(read(t, path)) == 0 {
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	others := map[string]string{path: "another's", path + ".1": "another's older part"}
	for name, text := range others {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(lines(Least / 8)); err != nil { // more than fits, so that it turns over
		t.Fatal(err)
	}
	w.Close()
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	for name, text := range others {
		if b := read(t, name); string(b) != text {
			t.Errorf("%s is %q", name, b)
		}
	}
}

func TestWhatFitsIsAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	for _, text := range []string{"first\n", "second\n"} {
		if err := Keep(strings.NewReader(text), options(path, Least)); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, path); string(got) != "first\nsecond\n" {
		t.Errorf("%q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != mode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestTheFilesAreBounded: the end of what was printed is there, whole and in order.
func TestTheFilesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	all := lines(20000) // 320 KB, less than may wait
	if err := Keep(bytes.NewReader(all), options(path, Least)); err != nil {
		t.Fatal(err)
	}
	older, newer := read(t, path+".1"), read(t, path)
	if len(older) != Least/2 || len(newer) > Least/2 {
		t.Errorf("%d and %d bytes", len(older), len(newer))
	}
	if !bytes.HasSuffix(all, append(older, newer...)) {
		t.Error("what is kept is not the end of what was printed")
	}
}

// TestAFileThatIsTooLargeAlready is one of an earlier version.
func TestAFileThatIsTooLargeAlready(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(path, lines(20000), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Keep(strings.NewReader("more\n"), options(path, Least)); err != nil {
		t.Fatal(err)
	}
	if older := read(t, path+".1"); len(older) != Least/2 || !bytes.HasSuffix(lines(20000), older) {
		t.Errorf("%d bytes kept", len(older))
	}
	if got := read(t, path); string(got) != "more\n" {
		t.Errorf("%q", got)
	}
}

// TestNobodysFilesAreFollowed: the older file may not be a link to somewhere else.
func TestNobodysFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "c"), filepath.Join(dir, "other")
	if err := errors.Join(os.WriteFile(other, []byte("mine"), 0o600), os.Symlink(other, path+".1")); err != nil {
		t.Fatal(err)
	}
	if err := Keep(bytes.NewReader(lines(5000)), options(path, Least)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, other); string(got) != "mine" {
		t.Errorf("%q", got)
	}
}

// TestAFileThatCannotBeWritten holds up nobody, and the gap is told once it can be.
func TestAFileThatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	k := &keeper{o: options(path, Least), room: Least / 2}
	k.append([]byte("lost"))
	if k.lost == nil || k.gap != 4 {
		t.Errorf("%v, a gap of %d bytes", k.lost, k.gap)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	k.append([]byte("here again\n"))
	k.close()
	if got := read(t, path); string(got) != "\n[4 bytes were lost here]\nhere again\n" {
		t.Errorf("%q", got)
	}
	if err := Keep(strings.NewReader("x"), options(filepath.Dir(path), Least)); err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("a directory as the file: %v", err)
	}
}

// TestALimitOnFilesEndsNobody: the signal that comes with it would.
func TestALimitOnFilesEndsNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(path, make([]byte, 31<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), asKeeper+"="+path)
	c.Stdin = bytes.NewReader(lines(100)) // up to 32 KiB, and then the file begins anew
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := read(t, path); len(s) > 32<<10 {
		t.Errorf("%d bytes", len(s))
	}
}

// TestAStalledFile: what comes is read all the same, and memory is bounded. A pipe
// that nobody empties stands for a disk.
func TestAStalledFile(t *testing.T) {
	b := &buffer{more: make(chan struct{}, 1)}
	for range 100 {
		b.put(make([]byte, 64<<10))
	}
	if len(b.bytes) > waiting || cap(b.bytes) > 2*waiting || len(b.bytes)+b.dropped != 100*64<<10 {
		t.Errorf("%d bytes wait, %d were dropped", len(b.bytes), b.dropped)
	}
	got, dropped, ended := b.take()
	if len(got) != waiting || dropped != 100*64<<10-waiting || ended {
		t.Errorf("took %d bytes, %d dropped, %v", len(got), dropped, ended)
	}
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Keep(bytes.NewReader(lines(10)), options(path, Least)); !errors.Is(err, unix.ENXIO) {
		t.Errorf("a pipe without a reader: %v", err)
	}
}
