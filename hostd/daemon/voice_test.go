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

// TestOneDoor: only voice.go calls what lets output leave, and there a door stands before
// each call. What a takeover sends again, a standby hands to its gate; nobody else calls that.
func TestOneDoor(t *testing.T) {
	speaks := regexp.MustCompile(`[gG]ate\.(Pass|PassUntil|Release|Resend|Announce|AnnounceAgain|Unhold)\b|\.Resend\(`)
	files, err := filepath.Glob("../*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := map[string]int{}
	for _, file := range files {
		dir := filepath.Base(filepath.Dir(file))
		if strings.HasSuffix(file, "_test.go") || dir == "gate" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := dir + "/" + filepath.Base(file)
		if calls := speaks.FindAllString(string(text), -1); len(calls) > 0 {
			found[name] = len(calls)
			if name != "daemon/voice.go" && name != "standby/takeover.go" {
				t.Errorf("%s calls %v", name, calls)
			}
		}
	}
	if found["daemon/voice.go"] < 5 || found["standby/takeover.go"] != 1 {
		t.Errorf("calls of what lets output leave: %v; this test looks for the wrong names", found)
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
