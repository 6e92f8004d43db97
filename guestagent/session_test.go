package guestagent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// transcript plays events, one a line, and returns them with their effects.
func transcript(t *testing.T, events string) string {
	t.Helper()
	s := &session{maxClosed: time.Second, callbacks: 200 * time.Millisecond}
	now := time.Unix(0, 0)
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(events), "\n") {
		line = strings.TrimSpace(line)
		var effects []string
		for _, e := range play(t, s, &now, line) {
			effects = append(effects, e.String())
		}
		fmt.Fprintf(&out, "%s -> %s\n", line, strings.Join(effects, ", "))
	}
	return out.String()
}

func play(t *testing.T, s *session, now *time.Time, line string) []effect {
	var id, request, generation uint64
	var deadline, hold int
	scan := func(format string, to ...any) bool {
		n, err := fmt.Sscanf(line, format, to...)
		return err == nil && n == len(to)
	}
	heard := func(kind agent.Type, p []byte) []effect {
		return s.heard(*now, agent.Header{Type: kind, Session: id}, p, agent.Welcome{})
	}
	switch {
	case scan("hello %d", &id):
		return heard(agent.TypeHello, nil)
	case scan("%d quiesce %d %d %d", &id, &request, &deadline, &hold):
		return heard(agent.TypeQuiesce, agent.Quiesce{Request: request,
			Deadline: time.Duration(deadline) * time.Millisecond, Hold: time.Duration(hold) * time.Millisecond}.Append(nil))
	case scan("%d resume %d", &id, &request):
		return heard(agent.TypeResume, agent.Resume{Request: request}.Append(nil))
	case scan("%d takeover %d", &id, &generation):
		return heard(agent.TypeResume, agent.Resume{TakenOver: true, Generation: generation}.Append(nil))
	case scan("%d ping", &id):
		return heard(agent.TypePing, nil)
	case scan("%d nonsense", &id):
		return append(heard(agent.TypeQuiesce, []byte{1}), heard(agent.TypeResume, nil)...)
	case scan("revived %d", &generation):
		return s.revivedDone(generation)
	case line == "at rest":
		return s.quiescent(nil)
	case scan("wait %d", &deadline):
		*now = now.Add(time.Duration(deadline) * time.Millisecond)
		return s.tick(*now, Count{Held: 3, Busy: 1})
	}
	t.Fatalf("what is %q?", line)
	return nil
}

func (e effect) String() string {
	switch e.kind {
	case closeGate:
		return "close"
	case openGate:
		return "open"
	case runTakeover:
		return fmt.Sprint("callbacks ", e.generation)
	}
	if r, err := agent.DecodeResumed(e.payload); e.frame == agent.TypeResumed && err == nil && r.Expired {
		return "say resumed by itself"
	}
	return "say " + e.frame.String()
}

func TestSession(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"a checkpoint", `
			hello 1 -> say welcome
			1 ping -> say pong
			1 quiesce 1 20 500 -> close
			at rest -> say quiescent
			wait 100 -> 
			1 resume 1 -> open, say resumed
			wait 1000 -> `},
		{"the application holds packets too long", `
			hello 1 -> say welcome
			1 quiesce 1 20 500 -> close
			wait 19 -> 
			wait 1 -> open, say busy
			at rest -> 
			1 resume 1 -> open, say resumed`},
		{"the host vanishes", `
			hello 1 -> say welcome
			1 quiesce 1 20 500 -> close
			at rest -> say quiescent
			wait 499 -> 
			wait 1 -> open, say resumed by itself`},
		{"the host asks for a long time", `
			hello 1 -> say welcome
			1 quiesce 1 20 3600000 -> close
			at rest -> say quiescent
			wait 1000 -> open, say resumed by itself`},
		{"stale and foreign frames", `
			1 quiesce 1 20 500 -> 
			hello 1 -> say welcome
			2 quiesce 1 20 500 -> 
			1 nonsense -> 
			1 quiesce 5 20 500 -> close
			1 quiesce 5 20 500 -> 
			1 quiesce 4 20 500 -> 
			at rest -> say quiescent
			1 resume 4 -> 
			2 resume 9 -> 
			2 takeover 9 -> 
			1 resume 5 -> open, say resumed`},
		{"the daemon starts again in a pause", `
			hello 1 -> say welcome
			1 quiesce 7 20 500 -> close
			at rest -> say quiescent
			hello 2 -> say welcome
			1 resume 7 -> 
			wait 500 -> open, say resumed by itself
			2 quiesce 1 20 500 -> close`},
		{"told of a takeover in two sessions", `
			hello 1 -> say welcome
			1 takeover 3 -> close, callbacks 3
			hello 2 -> say welcome
			2 takeover 3 -> 
			revived 3 -> open, say resumed
			2 takeover 3 -> open, say resumed
			hello 3 -> say welcome
			3 takeover 3 -> open, say resumed
			3 takeover 4 -> close, callbacks 4`},
		{"taken over in a still point, told twice", `
			hello 1 -> say welcome
			1 quiesce 7 20 500 -> close
			at rest -> say quiescent
			hello 2 -> say welcome
			2 takeover 3 -> close, callbacks 3
			2 takeover 3 -> 
			2 quiesce 1 20 500 -> say busy
			2 resume 1 -> 
			revived 3 -> open, say resumed
			2 takeover 3 -> say resumed
			2 takeover 4 -> close, callbacks 4
			revived 3 -> 
			revived 4 -> open, say resumed`},
		{"callbacks hang", `
			hello 2 -> say welcome
			2 takeover 3 -> close, callbacks 3
			wait 199 -> 
			wait 1 -> open, say resumed
			revived 3 -> `},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events, want []string
			for _, line := range strings.Split(strings.TrimSpace(c.want), "\n") {
				event, effects, _ := strings.Cut(strings.TrimSpace(line), "->")
				events = append(events, strings.TrimSpace(event))
				want = append(want, strings.TrimSpace(event)+" -> "+strings.TrimSpace(effects)+"\n")
			}
			if got := transcript(t, strings.Join(events, "\n")); got != strings.Join(want, "") {
				t.Errorf("got\n%swant\n%s", got, strings.Join(want, ""))
			}
		})
	}
}
