package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
)

// TestAClosedDoorLetsNothingLeave: what speaks does not come as far as the gate, which
// is none here.
func TestAClosedDoorLetsNothingLeave(t *testing.T) {
	g := &guest{door: voice.NewDoor("a")}
	g.door.Stands(arbiter.Record{Voice: "a", Generation: 1})
	g.door.Stop()
	if all, spoken := g.releaseUntil(1, time.Now().Add(time.Hour)); all || spoken {
		t.Error("an epoch was released")
	}
	if g.beginToSpeak(nil) {
		t.Error("a takeover has spoken")
	}
	g.passUntil(time.Now().Add(time.Hour))
	g.announceAgain()
}

// TestOneDoor: only voice.go calls what lets output leave, and there a door stands
// before each call.
func TestOneDoor(t *testing.T) {
	speaks := regexp.MustCompile(`gate\.(Pass|PassUntil|Release|Resend|Announce|Unhold)\b`)
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		calls := speaks.FindAllString(string(text), -1)
		switch {
		case file == "voice.go":
			found = len(calls)
		case len(calls) > 0 && !strings.HasSuffix(file, "_test.go"):
			t.Errorf("%s calls %v", file, calls)
		}
	}
	if found == 0 {
		t.Error("voice.go lets nothing leave: this test looks for the wrong names")
	}
}

// TestWhatAStopRefusedIsSaidInItsRole: what a protected machine has not committed stays.
func TestWhatAStopRefusedIsSaidInItsRole(t *testing.T) {
	kept := []pair.Effect{pair.Release{Epoch: 3}, pair.PassOutput{}, pair.GoLive{}}
	for role, want := range map[pair.Role][]pair.Effect{
		pair.Solo:      kept,
		pair.Protected: {kept[0], kept[2]},
	} {
		if got := stillDue(kept, role); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", role, got)
		}
	}
}
