package arbiter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// contract is what every arbiter offers.
type contract interface {
	Current(ctx context.Context, machine string) (Record, error)
	TestAndSet(ctx context.Context, expect uint64, next Record) (Record, error)
}

// kind is an arbiter under test. Each scenario gets one without records.
type kind struct {
	// open makes another host's arbiter on the same records.
	open func(t *testing.T) contract
	// damage overwrites the record that stands, of generation 1.
	damage func(t *testing.T, machine string, content []byte)
	// winUnseen makes the first claim win without a word to its claimant.
	winUnseen func(t *testing.T, a contract, claim entry)
}

func directoryKind(t *testing.T) kind {
	dir := t.TempDir()
	return kind{
		open: func(t *testing.T) contract { return open(t, dir) },
		damage: func(t *testing.T, machine string, content []byte) {
			if err := os.WriteFile(filepath.Join(dir, machine, "00000000000000000001.json"), content, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		winUnseen: func(t *testing.T, a contract, claim entry) {
			if _, err := a.(*Directory).claim(t.Context(), 0, claim); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func etcdKind(t *testing.T, endpoint, prefix string) kind {
	open := func(t *testing.T) *Etcd {
		return openEtcd(t, EtcdOptions{Endpoints: []string{endpoint}, Prefix: prefix})
	}
	return kind{
		open: func(t *testing.T) contract { return open(t) },
		damage: func(t *testing.T, machine string, content []byte) {
			a := open(t)
			if _, err := a.client.Put(t.Context(), a.key(machine), string(content)); err != nil {
				t.Fatal(err)
			}
		},
		winUnseen: func(t *testing.T, a contract, claim entry) {
			if _, err := a.(*Etcd).put(t.Context(), 0, claim); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func TestAllArbitersKeepTheContract(t *testing.T) {
	t.Parallel()
	scenarios := map[string]func(*testing.T, kind){
		"a record stands until the next": standsUntilTheNext,
		"one claimant wins":              oneClaimantWins,
		"names and generations checked":  namesAndGenerationsChecked,
		"damage grants nothing":          damageGrantsNothing,
		"another machine's record":       anotherMachinesRecord,
		"an answer is given again":       anAnswerIsGivenAgain,
		"nothing for who has left":       nothingForWhoHasLeft,
	}
	_, endpoint := startAlone(t)
	for name, scenario := range scenarios {
		t.Run("directory/"+name, func(t *testing.T) { scenario(t, directoryKind(t)) })
		t.Run("etcd/"+name, func(t *testing.T) { scenario(t, etcdKind(t, endpoint, "/"+t.Name()+"/")) })
	}
}

func win(t *testing.T, a contract, expect uint64, r Record) Record {
	t.Helper()
	won, err := a.TestAndSet(soon(t), expect, r)
	if err != nil {
		t.Fatal(err)
	}
	return won
}

func lose(t *testing.T, a contract, expect uint64, r Record) Record {
	t.Helper()
	won, err := a.TestAndSet(soon(t), expect, r)
	var lost *LostError
	if !errors.As(err, &lost) || lost.Expect != expect {
		t.Fatalf("claim after %d: %+v, %v, want a LostError", expect, won, err)
	}
	return lost.Winner
}

func standsUntilTheNext(t *testing.T, k kind) {
	a := k.open(t)
	if r, err := a.Current(soon(t), "nat"); err != nil || r != (Record{Machine: "nat"}) {
		t.Fatalf("without a record: %+v, %v", r, err)
	}
	if w := lose(t, a, 3, Record{Machine: "nat", Voice: "a"}); w != (Record{Machine: "nat"}) {
		t.Errorf("lost to %+v", w)
	}
	first := win(t, a, 0, Record{Machine: "nat", Voice: "a", Standby: "b", Kind: "pair"})
	if first.Generation != 1 || first.Time.IsZero() {
		t.Errorf("granted %+v", first)
	}
	if r, err := k.open(t).Current(soon(t), "nat"); err != nil || r != first {
		t.Errorf("another host reads %+v, %v, want %+v", r, err, first)
	}
	second := win(t, a, 1, Record{Machine: "nat", Generation: 2, Voice: "b", Kind: "takeover"})
	for _, expect := range []uint64{0, 1, 3, 17} {
		if w := lose(t, a, expect, Record{Machine: "nat", Voice: "a", Kind: "solo"}); w != second {
			t.Errorf("claim after %d lost to %+v, want %+v", expect, w, second)
		}
	}
	// An equal claim whose winner was told is a claim like any other.
	lose(t, a, 1, Record{Machine: "nat", Generation: 2, Voice: "b", Kind: "takeover"})
	if r, err := a.Current(soon(t), "other"); err != nil || r.Generation != 0 {
		t.Errorf("another machine: %+v, %v", r, err)
	}
}

func oneClaimantWins(t *testing.T, k kind) {
	const claimants, generations = 20, 3
	hosts := []contract{k.open(t), k.open(t), k.open(t)}
	for g := range uint64(generations) {
		winners, losers := make(chan Record, claimants), make(chan Record, claimants)
		var all sync.WaitGroup
		for i := range claimants {
			all.Go(func() {
				claim := Record{Machine: "nat", Voice: fmt.Sprint("host", i), Kind: "takeover"}
				won, err := hosts[i%len(hosts)].TestAndSet(soon(t), g, claim)
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
}

func namesAndGenerationsChecked(t *testing.T, k kind) {
	a := k.open(t)
	for _, name := range []string{"", "..", "a/b", "/etc", ".hidden", "a\x00b", "a b", strings.Repeat("x", 65)} {
		if _, err := a.Current(soon(t), name); !errors.Is(err, ErrName) {
			t.Errorf("Current(%q): %v", name, err)
		}
		if _, err := a.TestAndSet(soon(t), 0, Record{Machine: name, Voice: "a"}); !errors.Is(err, ErrName) {
			t.Errorf("TestAndSet(%q): %v", name, err)
		}
	}
	for _, c := range []struct{ expect, next uint64 }{{0, 2}, {5, 5}, {1<<64 - 1, 0}} {
		if _, err := a.TestAndSet(soon(t), c.expect, Record{Machine: "nat", Generation: c.next}); err == nil {
			t.Errorf("generation %d after %d was granted", c.next, c.expect)
		}
	}
}

func damageGrantsNothing(t *testing.T, k kind) {
	a := k.open(t)
	win(t, a, 0, Record{Machine: "nat", Voice: "a"})
	good, err := encode(entry{Record: Record{Machine: "nat", Generation: 1, Voice: "a"}, Claim: "X"})
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(good), `"voice":"a"`, `"voice":"b"`, 1)
	for _, content := range []string{"", "{}", "null", string(good[:len(good)/2]), forged} {
		k.damage(t, "nat", []byte(content))
		if r, err := a.Current(soon(t), "nat"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "nat") {
			t.Errorf("%q: read %+v, %v", content, r, err)
		}
		_, err := a.TestAndSet(soon(t), 1, Record{Machine: "nat", Voice: "c"})
		if !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%q: claim: %v", content, err)
		}
	}
}

func anotherMachinesRecord(t *testing.T, k kind) {
	a := k.open(t)
	win(t, a, 0, Record{Machine: "two", Voice: "a"})
	one, err := encode(entry{Record: Record{Machine: "one", Generation: 1, Voice: "a"}, Claim: "X"})
	if err != nil {
		t.Fatal(err)
	}
	k.damage(t, "two", one)
	if r, err := a.Current(soon(t), "two"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%+v, %v", r, err)
	}
}

func anAnswerIsGivenAgain(t *testing.T, k kind) {
	a := k.open(t)
	claim := entry{Record: Record{Machine: "nat", Generation: 1, Voice: "a", Standby: "b", Kind: "pair"}, Claim: "X"}
	k.winUnseen(t, a, claim)
	lose(t, k.open(t), 0, claim.Record)
	lose(t, a, 0, Record{Machine: "nat", Voice: "b", Kind: "solo"})
	win(t, a, 0, claim.Record)
	lose(t, a, 0, claim.Record)
}

func nothingForWhoHasLeft(t *testing.T, k kind) {
	a := k.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.TestAndSet(ctx, 0, Record{Machine: "nat", Voice: "a"}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
	if _, err := a.Current(ctx, "nat"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if r, err := a.Current(soon(t), "nat"); err != nil || r.Generation != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
