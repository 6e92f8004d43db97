package voice_test

import (
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	. "github.com/stillpoint-ft/stillpoint/hostd/voice"
)

func TestADoorIsOpenWhileTheRecordNamesItsHost(t *testing.T) {
	d := NewDoor("a")
	want := func(open bool, after string) {
		t.Helper()
		spoken := false
		if got := d.Speak(func() { spoken = true }); got != open || spoken != open {
			t.Errorf("after %s the door is open: %v, and something left: %v", after, got, spoken)
		}
	}
	want(false, "nothing")
	d.Stands(arbiter.Record{Generation: 2, Voice: "a"})
	want(true, "its own record")
	d.Stands(arbiter.Record{Generation: 3, Voice: "b"})
	want(false, "another's")
	d.Stands(arbiter.Record{Generation: 2, Voice: "a"})
	want(false, "an answer that came late")
	d.Stands(arbiter.Record{Generation: 4, Voice: "a"})
	want(true, "a new grant")
	d.Stop()
	want(false, "a stop")
	d.Stands(arbiter.Record{Generation: 5, Voice: "a"})
	want(false, "a grant that was on its way")
	d.Resume()
	want(true, "a stop that was refused")
}
