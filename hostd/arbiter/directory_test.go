package arbiter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func open(t *testing.T, dir string) *Directory {
	t.Helper()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// onlyRecords checks that exactly the records 1 to last are left.
func onlyRecords(t *testing.T, dir, machine string, last int) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(dir, machine))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != last {
		t.Errorf("%d files, want %d records: %v", len(files), last, files)
	}
	for i := range files {
		if want := fmt.Sprintf("%020d.json", i+1); files[i].Name() != want {
			t.Errorf("file %s, want %s", files[i].Name(), want)
		}
	}
}

func mustWin(t *testing.T, d *Directory, expect uint64, r Record) Record {
	t.Helper()
	won, err := d.TestAndSet(t.Context(), expect, r)
	if err != nil {
		t.Fatal(err)
	}
	return won
}

func mustLose(t *testing.T, d *Directory, expect uint64, r Record) Record {
	t.Helper()
	won, err := d.TestAndSet(t.Context(), expect, r)
	var lost *LostError
	if !errors.As(err, &lost) {
		t.Fatalf("claim after %d: %+v, %v, want a LostError", expect, won, err)
	}
	return lost.Winner
}

func TestARecordStandsUntilTheNextGeneration(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if r, err := d.Current(t.Context(), "nat"); err != nil || r != (Record{Machine: "nat"}) {
		t.Fatalf("without a record: %+v, %v", r, err)
	}
	first := mustWin(t, d, 0, Record{Machine: "nat", Voice: "a", Standby: "b", Kind: "pair"})
	if first.Generation != 1 || first.Time.IsZero() {
		t.Errorf("granted %+v", first)
	}
	if r, err := open(t, dir).Current(t.Context(), "nat"); err != nil || r != first {
		t.Errorf("another host reads %+v, %v, want %+v", r, err, first)
	}
	second := mustWin(t, d, 1, Record{Machine: "nat", Generation: 2, Voice: "b", Kind: "takeover"})
	for _, expect := range []uint64{0, 1, 3, 17} {
		if w := mustLose(t, d, expect, Record{Machine: "nat", Voice: "a", Kind: "solo"}); w != second {
			t.Errorf("claim after %d lost to %+v, want %+v", expect, w, second)
		}
	}
	// An equal claim whose winner was told is a claim like any other.
	mustLose(t, d, 1, Record{Machine: "nat", Generation: 2, Voice: "b", Kind: "takeover"})
	onlyRecords(t, dir, "nat", 2)
}

func TestOneOfFiftyClaimantsWinsEachGeneration(t *testing.T) {
	const claimants, generations = 50, 5
	dir := t.TempDir()
	shared := open(t, dir)
	for g := range uint64(generations) {
		winners := make(chan Record, claimants)
		losers := make(chan Record, claimants)
		var all sync.WaitGroup
		for i := range claimants {
			d := shared
			if i%2 == 0 {
				d = open(t, dir)
			}
			all.Go(func() {
				won, err := d.TestAndSet(t.Context(), g, Record{Machine: "nat", Voice: fmt.Sprint("host", i), Kind: "takeover"})
				var lost *LostError
				switch {
				case err == nil:
					winners <- won
				case errors.As(err, &lost):
					losers <- lost.Winner
				default:
					t.Errorf("claimant %d: %v", i, err)
				}
			})
		}
		all.Wait()
		close(winners)
		close(losers)
		if len(winners) != 1 {
			t.Fatalf("generation %d: %d winners", g+1, len(winners))
		}
		winner := <-winners
		for w := range losers {
			if w != winner {
				t.Errorf("lost to %+v, but %+v won", w, winner)
			}
		}
	}
	onlyRecords(t, dir, "nat", generations)
}

func TestNamesCannotLeaveTheDirectory(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\x00b", "a b", "-x", "a\n", strings.Repeat("x", 65)} {
		if _, err := d.Current(t.Context(), name); !errors.Is(err, ErrName) {
			t.Errorf("Current(%q): %v", name, err)
		}
		if _, err := d.TestAndSet(t.Context(), 0, Record{Machine: name, Voice: "a"}); !errors.Is(err, ErrName) {
			t.Errorf("TestAndSet(%q): %v", name, err)
		}
	}
	if _, err := d.TestAndSet(t.Context(), 0, Record{Machine: "nat", Voice: strings.Repeat("x", 256)}); !errors.Is(err, ErrName) {
		t.Errorf("long voice: %v", err)
	}
	for _, c := range []struct{ expect, next uint64 }{{0, 2}, {5, 5}, {1<<64 - 1, 0}} {
		if _, err := d.TestAndSet(t.Context(), c.expect, Record{Machine: "nat", Generation: c.next}); err == nil {
			t.Errorf("generation %d after %d was granted", c.next, c.expect)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

func TestDamagedRecordsGrantNothing(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	want := mustWin(t, d, 0, Record{Machine: "nat", Voice: "a", Standby: "b", Kind: "pair"})
	path := filepath.Join(dir, "nat", "00000000000000000001.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, content []byte) {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := d.Current(t.Context(), "nat")
		if err == nil && r == want {
			return // the damage was to a space or the like
		}
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
			t.Fatalf("%s: read %+v, %v", what, r, err)
		}
		if _, err := d.TestAndSet(t.Context(), 1, Record{Machine: "nat", Voice: "c"}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: claim: %v", what, err)
		}
	}
	for n := range len(good) - 1 {
		check(fmt.Sprintf("cut at %d", n), good[:n])
	}
	for i := range len(good) * 8 {
		flipped := bytes.Clone(good)
		flipped[i/8] ^= 1 << (i % 8)
		check(fmt.Sprintf("bit %d flipped", i), flipped)
	}
	check("endless", bytes.Repeat([]byte(" "), maxRecord+1))
	os.Remove(path)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Current(t.Context(), "nat"); err == nil {
		t.Errorf("a directory was read as %+v", r)
	}
}

func TestARecordOfAnotherMachineIsCorrupt(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	mustWin(t, d, 0, Record{Machine: "one", Voice: "a"})
	if err := os.Rename(filepath.Join(dir, "one"), filepath.Join(dir, "two")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Current(t.Context(), "two"); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestCrashLeftoversAreIgnoredAndCleaned(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	mustWin(t, d, 0, Record{Machine: "nat", Voice: "a"})
	leave := func(name string) string {
		path := filepath.Join(dir, "nat", name)
		if err := os.WriteFile(path, []byte(`{"machine":"nat","gener`), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	leave(".00000000000000000001-OLD.tmp")
	leave(".00000000000000000002-CRASHED.tmp")
	unborn := leave(".00000000000000000003-LIVE.tmp")
	foreign := leave("README")
	if r, err := d.Current(t.Context(), "nat"); err != nil || r.Generation != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	mustWin(t, d, 1, Record{Machine: "nat", Voice: "b"})
	for _, path := range []string{unborn, foreign} {
		if err := os.Remove(path); err != nil {
			t.Errorf("it is not a dead claim's: %v", err)
		}
	}
	onlyRecords(t, dir, "nat", 2)
}

func TestAClaimWhoseAnswerWasLostIsAnsweredAgain(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	claim := entry{Record: Record{Machine: "nat", Generation: 1, Voice: "a", Kind: "solo"}, Claim: "X"}
	// As if the caller's context had ended after the link.
	if _, err := d.claim(t.Context(), 0, claim); err != nil {
		t.Fatal(err)
	}
	other := open(t, dir)
	mustLose(t, other, 0, claim.Record)
	mustLose(t, d, 0, Record{Machine: "nat", Voice: "b", Kind: "solo"})
	mustWin(t, d, 0, claim.Record)
	mustLose(t, d, 0, claim.Record)
}

// TestAClaimThatIsNotOnStableStorageIsNotGranted: it may have won, and may be
// forgotten by the next power cut.
func TestAClaimThatIsNotOnStableStorageIsNotGranted(t *testing.T) {
	d := open(t, t.TempDir())
	d.store.sync = func(string) error { return os.ErrDeadlineExceeded }
	_, err := d.TestAndSet(t.Context(), 0, Record{Machine: "nat", Voice: "a", Kind: "solo"})
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	d.store.sync = syncDirectory
	if won := mustWin(t, d, 0, Record{Machine: "nat", Voice: "a", Kind: "solo"}); won.Generation != 1 {
		t.Errorf("asked again: %+v", won)
	}
}

func TestACreationThatFailedAfterAllIsFoundOut(t *testing.T) {
	d := open(t, t.TempDir())
	e := entry{Record: Record{Machine: "nat", Generation: 1, Voice: "a"}, Claim: "X"}
	why := errors.New("server does not answer")
	if err := d.failed(e, why); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, why) {
		t.Errorf("nothing stands: %v", err)
	}
	if err := d.store.create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := d.failed(e, os.ErrExist); err != nil {
		t.Errorf("our own stands: %v", err)
	}
	e.Claim = "Y"
	var lost *LostError
	if err := d.failed(e, os.ErrExist); !errors.As(err, &lost) || lost.Winner.Voice != "a" {
		t.Errorf("another's stands: %v", err)
	}
}

func TestNothingIsRecordedForACallerWhoHasLeft(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.TestAndSet(ctx, 0, Record{Machine: "nat", Voice: "a"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := d.claim(ctx, 0, entry{Record: Record{Machine: "nat", Generation: 1}, Claim: "X"}); !errors.Is(err, errBeforeLink) {
		t.Error(err)
	}
	if len(d.unanswered) != 0 {
		t.Errorf("remembered: %v", d.unanswered)
	}
	onlyRecords(t, dir, "nat", 0)
}

func TestAHangingFileSystemDoesNotHoldItsCallers(t *testing.T) {
	d := open(t, t.TempDir())
	hang := make(chan struct{})
	for range 2 * atOnce {
		ctx, cancel := context.WithCancel(t.Context())
		started := make(chan struct{}, 1)
		go func() {
			// Cancel as soon as it hangs, or at once when no slot is left.
			if len(d.slots) < atOnce {
				<-started
			}
			cancel()
		}()
		_, err := d.run(ctx, func() (entry, error) { started <- struct{}{}; <-hang; return entry{}, nil })
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	close(hang)
	d.Close()
}

func TestTheDirectoryMustBeThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenDirectory(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDirectory(file); err == nil {
		t.Error("a file was opened")
	}
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	d := open(t, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Current(t.Context(), "nat"); err == nil {
		t.Errorf("vanished, yet it says %+v", r)
	}
}
