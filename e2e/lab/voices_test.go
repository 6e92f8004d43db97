package lab

import (
	"reflect"
	"testing"
	"time"
)

func second(n int) time.Time { return time.Unix(int64(n), 0) }

func TestVoices(t *testing.T) {
	run := func(host string, first, last int, frames uint64) VoiceRun {
		return VoiceRun{host, second(first), second(last), frames}
	}
	guest, other := MAC{2, 1}, MAC{2, 2}
	frame := func(host, port string, at int) Frame {
		return Frame{Time: second(at), Host: host, Port: port, Sent: true, Source: guest}
	}
	heard := frame("b", "in", 3) // on its way to b
	heard.Sent = false
	foreign := frame("b", "in", 3)
	foreign.Source = other
	for _, c := range []struct {
		name   string
		frames []Frame
		from   int
		want   []VoiceRun
		again  bool
	}{
		{name: "silence"},
		{name: "one voice on two ports, read out of order",
			frames: []Frame{frame("a", "in", 1), frame("a", "in", 4), frame("a", "out", 2)},
			want:   []VoiceRun{run("a", 1, 4, 3)}},
		{name: "a takeover",
			frames: []Frame{frame("a", "in", 1), frame("b", "out", 6), frame("a", "out", 5), frame("b", "in", 7)},
			want:   []VoiceRun{run("a", 1, 5, 2), run("b", 6, 7, 2)}},
		{name: "interleaved, or there and back",
			frames: []Frame{frame("a", "in", 1), frame("b", "in", 2), frame("a", "out", 3)},
			want:   []VoiceRun{run("a", 1, 1, 1), run("b", 2, 2, 1), run("a", 3, 3, 1)}, again: true},
		{name: "three hosts",
			frames: []Frame{frame("a", "in", 1), frame("b", "in", 2), frame("c", "in", 3)},
			want:   []VoiceRun{run("a", 1, 1, 1), run("b", 2, 2, 1), run("c", 3, 3, 1)}},
		{name: "what others say",
			frames: []Frame{frame("a", "in", 2), heard, foreign, frame("a", "in", 4)},
			want:   []VoiceRun{run("a", 2, 4, 2)}},
		{name: "from then on", from: 2,
			frames: []Frame{frame("a", "in", 1), frame("b", "in", 2), frame("a", "in", 1)},
			want:   []VoiceRun{run("b", 2, 2, 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &Observer{counts: map[Voice]*Count{}}
			for _, f := range c.frames {
				o.add(f)
			}
			runs, again, err := o.Voices(second(c.from), guest)
			if err != nil || again != c.again || !reflect.DeepEqual(runs, c.want) {
				t.Errorf("got %v, again %v, %v; want %v, %v", runs, again, err, c.want, c.again)
			}
		})
	}
}

func TestVoicesOfAnySource(t *testing.T) {
	o := &Observer{counts: map[Voice]*Count{}}
	for i := range 3 {
		o.add(Frame{Time: second(i), Host: "a", Sent: true, Source: MAC{2, byte(i)}})
	}
	if runs, _, err := o.Voices(time.Time{}); err != nil || len(runs) != 1 || runs[0].Frames != 3 {
		t.Errorf("got %v, %v", runs, err)
	}
}

func TestVoicesFailWhenFramesAreForgotten(t *testing.T) {
	o := &Observer{counts: map[Voice]*Count{}}
	for i := range observedFrames + 5 { // 0 to 4 are forgotten
		o.add(Frame{Time: second(i), Host: "a", Sent: true})
	}
	if _, _, err := o.Voices(second(4)); err == nil {
		t.Error("a forgotten frame was not missed")
	}
	runs, again, err := o.Voices(second(5))
	if err != nil || again || len(runs) != 1 || runs[0].Frames != observedFrames {
		t.Errorf("got %v, %v, %v", runs, again, err)
	}
	o.Reset()
	if _, _, err := o.Voices(second(0)); err != nil {
		t.Errorf("after Reset: %v", err)
	}
}
