package voice_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	. "github.com/stillpoint-ft/stillpoint/hostd/voice"
)

// TestWhichRecordMayFollowWhich is the table of docs/safety.md, "The arbiter's
// records", for every kind of record and claimant. Host a speaks where anybody does.
func TestWhichRecordMayFollowWhich(t *testing.T) {
	stands := map[string]arbiter.Record{
		"none":     {},
		"started":  {Generation: 4, Voice: "a", Kind: Started},
		"pair":     {Generation: 4, Voice: "a", Standby: "b", Kind: Pair},
		"solo":     {Generation: 4, Voice: "a", Kind: Solo},
		"takeover": {Generation: 4, Voice: "a", Kind: Takeover},
		"handover": {Generation: 4, Voice: "a", Kind: Handover},
		"return":   {Generation: 4, Voice: "a", Kind: Return},
		"stopped":  {Generation: 4, Kind: Stopped},
	}
	// Who may follow a record with a claim. All else may not.
	speaks := []string{"started", "pair", "solo", "takeover", "handover", "return"}
	may := map[[2]string][]string{
		{"a", Started}:  append([]string{"none", "stopped"}, speaks...),
		{"b", Started}:  {"none", "stopped"},
		{"c", Started}:  {"none", "stopped"},
		{"a", Pair}:     speaks,
		{"a", Solo}:     speaks,
		{"a", Stopped}:  speaks,
		{"b", Takeover}: {"pair"},
		{"b", Handover}: {"pair"},
		{"a", Return}:   {"handover"},
	}
	for _, host := range []string{"a", "b", "c", ""} {
		for _, kind := range []string{Started, Pair, Solo, Takeover, Handover, Return, Stopped, "unheard of"} {
			for name, record := range stands {
				want := false
				for _, allowed := range may[[2]string{host, kind}] {
					want = want || allowed == name
				}
				c := Claim{Machine: "m", Kind: kind, Host: host, Expect: record.Generation, Other: "z"}
				if got := c.Follows(record); got != want {
					t.Errorf("%s of host %q after %s: %v, want %v", kind, host, name, got, want)
				}
				c.Expect++
				if c.Follows(record) {
					t.Errorf("%s of host %q follows %s of another generation", kind, host, name)
				}
			}
		}
	}
}

func TestWhatAClaimRecords(t *testing.T) {
	for kind, want := range map[string]arbiter.Record{
		Started:  {Voice: "a"},
		Pair:     {Voice: "a", Standby: "z"},
		Solo:     {Voice: "a"},
		Takeover: {Voice: "a"},
		Handover: {Voice: "a"},
		Return:   {Voice: "z"},
		Stopped:  {},
	} {
		want.Machine, want.Generation, want.Kind = "m", 8, kind
		if got := (Claim{Machine: "m", Kind: kind, Host: "a", Expect: 7, Other: "z"}).Record(); got != want {
			t.Errorf("%s: %+v, want %+v", kind, got, want)
		}
	}
}

// store holds one record. It loses the answers to claims where it is to.
type store struct {
	stands arbiter.Record
	silent error // of the question
	lose   bool
}

func (s *store) Current(context.Context, string) (arbiter.Record, error) { return s.stands, s.silent }

func (s *store) TestAndSet(_ context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	if s.stands.Generation != expect {
		return s.stands, &arbiter.LostError{Expect: expect, Winner: s.stands}
	}
	s.stands = next
	if s.lose {
		return arbiter.Record{}, arbiter.ErrOutcomeUnknown
	}
	return next, nil
}

// TestAClaimThatWonUnseen is recognised when it is repeated.
func TestAClaimThatWonUnseen(t *testing.T) {
	pair := arbiter.Record{Machine: "m", Generation: 3, Voice: "a", Standby: "b", Kind: Pair}
	for _, c := range []Claim{
		{Machine: "m", Kind: Solo, Host: "a", Expect: 3}, {Machine: "m", Kind: Stopped, Host: "a", Expect: 3},
		{Machine: "m", Kind: Takeover, Host: "b", Expect: 3},
	} {
		s := &store{stands: pair, lose: true}
		if _, err := c.Make(t.Context(), s); !errors.Is(err, arbiter.ErrOutcomeUnknown) {
			t.Error(err)
		}
		if r, err := c.Make(t.Context(), s); err != nil || r.Kind != c.Kind || r.Generation != 4 {
			t.Errorf("%s again: %+v, %v", c.Kind, r, err)
		}
	}
}

// TestAClaimThatWasNotMade is known to be none.
func TestAClaimThatWasNotMade(t *testing.T) {
	s := &store{silent: arbiter.ErrOutcomeUnknown}
	_, err := Claim{Machine: "m", Kind: Stopped, Host: "a", Expect: 3}.Make(t.Context(), s)
	if err == nil || errors.Is(err, arbiter.ErrOutcomeUnknown) {
		t.Error(err)
	}
	s = &store{stands: arbiter.Record{Machine: "m", Generation: 3, Voice: "b", Kind: Started}}
	var lost *arbiter.LostError
	if _, err = (Claim{Machine: "m", Kind: Solo, Host: "a", Expect: 3}).Make(t.Context(), s); !errors.As(err, &lost) || lost.Winner.Voice != "b" {
		t.Error(err)
	}
	if _, err := Start(t.Context(), s, "m", s.stands, "a"); !errors.Is(err, ErrHeld) || s.stands.Generation != 3 {
		t.Error(err)
	}
}

func TestAlone(t *testing.T) {
	for stands, kind := range map[arbiter.Record]string{
		{Machine: "m", Generation: 3, Voice: "a", Kind: Started}:              Started,
		{Machine: "m", Generation: 3, Voice: "a", Standby: "b", Kind: "pair"}: Solo,
	} {
		r, err := Alone(t.Context(), &store{stands: stands}, stands, "a")
		if err != nil || r.Kind != kind || r.Generation != 4 || r.Standby != "" {
			t.Errorf("after %s: %+v, %v", stands.Kind, r, err)
		}
	}
}

func TestForgot(t *testing.T) {
	for _, c := range []struct {
		stands, known uint64
		want          bool
	}{{0, 0, true}, {0, 5, true}, {4, 5, true}, {5, 5, false}, {9, 5, false}, {1, 0, false}} {
		if got := Forgot(arbiter.Record{Generation: c.stands}, c.known); got != c.want {
			t.Errorf("generation %d where %d was known: %v", c.stands, c.known, got)
		}
	}
}
