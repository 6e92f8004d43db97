package traffic

import (
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

// story builds a record event by event, one millisecond apart.
type story struct {
	log Log
	at  time.Duration
}

func (s *story) send(seqs ...uint64) *story {
	for _, seq := range seqs {
		s.at += time.Millisecond
		s.log.Sent = append(s.log.Sent, Packet{Seq: seq, At: s.at})
	}
	return s
}

func (s *story) receive(seq, stamp uint64) *story {
	s.at += time.Millisecond
	s.log.Received = append(s.log.Received, Packet{Seq: seq, Stamp: stamp, At: s.at})
	return s
}

// reply is sent and received under a stamp, echoing the request's.
func (s *story) reply(seq, echo, stamp uint64) *story {
	s.at += time.Millisecond
	s.log.Sent = append(s.log.Sent, Packet{Direction: probe.Reply, Seq: seq, Echo: echo, At: s.at})
	s.at += time.Millisecond
	s.log.Received = append(s.log.Received, Packet{Direction: probe.Reply, Seq: seq, Stamp: stamp, Echo: echo, At: s.at})
	return s
}

func begin() *story { return &story{} }

// TestJudgeNamesWhatWasLost, each packet once, and not more than can be read.
func TestJudgeNamesWhatWasLost(t *testing.T) {
	s := begin().send(0, 1, 2, 1).receive(0, 1).receive(2, 2)
	if v := Judge(s.log); len(v.Missing) != 1 || v.Missing[0].Seq != 1 || v.Missing[0].At != 2*time.Millisecond {
		t.Errorf("%+v", v.Missing)
	}
	for seq := range uint64(2 * maxEvidence) {
		s.send(10 + seq)
	}
	if v := Judge(s.log); len(v.Missing) != maxEvidence || v.Lost != 2*maxEvidence+1 {
		t.Errorf("%d of %d were named", len(v.Missing), v.Lost)
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		story *story
		want  Verdict
		kinds []Kind
	}{
		"nothing": {story: begin()},
		"all well": {
			story: begin().send(0, 1).receive(0, 1).reply(0, 1, 2).receive(1, 3).reply(1, 3, 4),
			want:  Verdict{Sent: 4, Received: 4},
		},
		"lost": {
			story: begin().send(0, 1, 2).receive(0, 1).receive(2, 2),
			want:  Verdict{Sent: 3, Received: 2, Lost: 1},
		},
		"committed output sent again": {
			story: begin().send(0, 1).receive(0, 1).receive(1, 2).receive(0, 1).receive(1, 2),
			want:  Verdict{Sent: 2, Received: 2, Duplicated: 2},
		},
		"input handed in again": {
			story: begin().send(0, 1).receive(0, 1).receive(1, 2).receive(0, 3),
			want:  Verdict{Sent: 2, Received: 2, Duplicated: 1},
		},
		"reordered behind the machine": {
			story: begin().send(0, 1).receive(1, 2).receive(0, 1),
			want:  Verdict{Sent: 2, Received: 2, Reordered: 1},
		},
		"reordered before the machine": {
			story: begin().send(0, 1).receive(1, 1).receive(0, 2),
			want:  Verdict{Sent: 2, Received: 2, Reordered: 1},
		},
		"committed output that had not left": {
			story: begin().send(0, 1, 2).receive(0, 1).receive(0, 1).receive(1, 2).receive(2, 3),
			want:  Verdict{Sent: 3, Received: 3, Duplicated: 1},
		},
		"rollback: a stamp on two packets": {
			story: begin().send(0, 1, 2).receive(0, 1).receive(1, 2).receive(2, 2),
			want:  Verdict{Sent: 3, Received: 3, Rollbacks: 1},
			kinds: []Kind{Reissued},
		},
		"rollback: a stamp below one seen before the sending": {
			story: begin().send(0).receive(0, 10).send(1).receive(1, 8).send(2).receive(2, 11),
			want:  Verdict{Sent: 3, Received: 3, Rollbacks: 1},
			kinds: []Kind{BeforeSeen},
		},
		"rollback: a reply not above its request": {
			story: begin().send(0).receive(0, 10).reply(0, 10, 9),
			want:  Verdict{Sent: 2, Received: 2, Rollbacks: 1},
			kinds: []Kind{BeforeSeen},
		},
		"rollback: a later packet with a lower stamp": {
			story: begin().send(0, 1).receive(0, 10).receive(1, 9),
			want:  Verdict{Sent: 2, Received: 2, Rollbacks: 1},
			kinds: []Kind{WentBack},
		},
		"rollback: one packet again under a lower stamp": {
			story: begin().send(0).receive(0, 10).receive(0, 9),
			want:  Verdict{Sent: 1, Received: 1, Duplicated: 1, Rollbacks: 1},
			kinds: []Kind{WentBack},
		},
		"rollback: the counter catches up": {
			story: begin().send(0, 1, 2).receive(0, 1).receive(1, 2).receive(2, 3).send(3, 4, 5).receive(3, 2).receive(4, 3).receive(5, 4),
			want:  Verdict{Sent: 6, Received: 6, Rollbacks: 2},
			kinds: []Kind{Reissued, Reissued},
		},
		"no stamp": {
			story: begin().send(0, 1).receive(0, 0).receive(1, 0),
			want:  Verdict{Sent: 2, Received: 2, Unstamped: 2},
		},
		"never sent": {
			story: begin().send(0).receive(0, 1).receive(7, 2),
			want:  Verdict{Sent: 1, Received: 1, Unknown: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Judge(c.story.log)
			evidence := got.Evidence
			got.Evidence = nil
			if got.String() != c.want.String() {
				t.Errorf("\n got %v\nwant %v\nevidence %v", got, c.want, evidence)
			}
			if len(evidence) != len(c.kinds) {
				t.Fatalf("evidence %v, want %v", evidence, c.kinds)
			}
			for i, e := range evidence {
				if e.Kind != c.kinds[i] || !strings.Contains(e.String(), string(e.Kind)) {
					t.Errorf("evidence %d: %v, want %v", i, e, c.kinds[i])
				}
			}
		})
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	s := begin()
	for seq := range uint64(3 * maxEvidence) {
		s.send(seq).receive(seq, 1)
	}
	if v := Judge(s.log); v.Rollbacks != 3*maxEvidence-1 || len(v.Evidence) != maxEvidence || v.Clean() {
		t.Fatalf("%v, evidence of %d", v, len(v.Evidence))
	}
}

func TestStreamsAreSeparate(t *testing.T) {
	s := begin().send(5).receive(5, 1)
	s.log.Sent = append(s.log.Sent, Packet{Stream: 1, Seq: 3, At: s.at})
	s.log.Received = append(s.log.Received, Packet{Stream: 1, Seq: 3, Stamp: 2, At: s.at + 1})
	if v := Judge(s.log); v.Reordered+v.Rollbacks+v.Lost != 0 {
		t.Fatal(v)
	}
}

// TestOvertakenPacketsTellWhere it happened.
func TestOvertakenPacketsTellWhere(t *testing.T) {
	for where, stamps := range map[string][2]uint64{"behind the machine": {1, 2}, "before the machine": {2, 1}} {
		v := Judge(begin().send(0, 1).receive(1, stamps[1]).receive(0, stamps[0]).log)
		if len(v.Overtaken) != 1 || v.Overtaken[0].Packet.Seq != 0 || v.Overtaken[0].By.Seq != 1 {
			t.Fatalf("%+v", v.Overtaken)
		}
		if text := v.Overtaken[0].String(); !strings.Contains(text, where) {
			t.Errorf("it says %q", text)
		}
	}
}

func TestRecorderIsBounded(t *testing.T) {
	r := NewRecorder(2)
	for seq := range uint64(5) {
		r.sent(probe.Packet{Seq: seq})
	}
	if l := r.Log(); len(l.Sent) != 2 || l.Overflow != 3 || Judge(l).Clean() {
		t.Fatalf("%d sent, overflow %d", len(l.Sent), l.Overflow)
	}
}

func TestBlackout(t *testing.T) {
	ms := time.Millisecond
	var l Log
	for _, at := range []time.Duration{0, 1, 50, 51, 100, 101, 102, 190, 191, 500} {
		l.Received = append(l.Received, Packet{At: at * ms})
	}
	for _, c := range []struct{ at, within, from, to time.Duration }{
		{101, 50, 102, 190}, // packets under way at the kill do not end it
		{120, 50, 102, 190},
		{20, 5, 1, 50},
		{101, 200, 191, 500},
	} {
		if g, ok := Blackout(l, c.at*ms, c.within*ms); !ok || g.From != c.from*ms || g.To != c.to*ms {
			t.Errorf("around %d ms: %+v, %v", c.at, g, ok)
		}
	}
	if _, ok := Blackout(l, time.Second, time.Second); ok {
		t.Error("a blackout that nothing ended")
	}
}

func TestRoundTrips(t *testing.T) {
	var l Log
	for seq := range 100 {
		p := Packet{Seq: uint64(seq), At: time.Duration(seq)}
		l.Sent = append(l.Sent, p)
		p.Direction, p.At = probe.Reply, p.At+time.Duration(seq+1)
		l.Received = append(l.Received, p, p)
	}
	if d := RoundTrips(l); d != (Latency{Count: 100, P50: 50, P95: 95, P99: 99, Max: 100}) {
		t.Fatalf("%+v", d)
	}
	if d := RoundTrips(Log{}); d != (Latency{}) {
		t.Fatalf("%+v", d)
	}
}
