package qmp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// events are so many lines.
func events(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf(`{"timestamp":{"seconds":1,"microseconds":2},"event":"RTC_CHANGE","data":{"n":%d}}`, i))
	}
	return lines
}

// TestEventsAtAnyTime: QEMU tells events to whoever is connected, before its greeting,
// between a command and its reply, and any number of them.
func TestEventsAtAnyTime(t *testing.T) {
	for _, urgent := range []bool{false, true} {
		for _, n := range []struct{ greeting, handshake, later int }{
			{1, 0, 0}, {200, 0, 0}, {0, 1, 0}, {0, eventBurst, 0}, {0, eventBurst + 1, 0}, {0, 2000, 0}, {0, 0, 2000}, {70, 70, 70},
		} {
			t.Run(fmt.Sprint(n, urgent), func(t *testing.T) {
				s := newServer(t)
				wait := s.background(func() {
					s.accept()
					s.say(append(events(n.greeting), greeting)...)
					h := s.hear()
					s.say(events(n.handshake)...)
					s.answer(h, done)
					h = s.hear()
					s.say(events(n.later)...)
					s.answer(h, fmt.Sprintf(`{"return":{"status":"running","running":true,"long":"%0*d"}}`, 300_000, 1))
				})
				defer wait()
				client, err := dial(limited(t), s.path, urgent, nil)
				if err != nil {
					s.conn.Close()
					t.Fatal(err)
				}
				defer client.Close()
				if st, err := client.QueryStatus(limited(t)); err != nil || !st.Running {
					t.Error(st, err)
				}
			})
		}
	}
}

// TestEventsKeepTheirOrder, those of the handshake too, as far as a subscription holds
// them.
func TestEventsKeepTheirOrder(t *testing.T) {
	s := newServer(t)
	goOn := make(chan struct{})
	wait := s.background(func() {
		s.handshake()
		<-goOn
		s.say(events(queueLength)...)
	})
	c, err := Dial(limited(t), s.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	subscription := c.Events()
	close(goOn)
	wait()
	for i := range queueLength {
		if e := next(t, subscription); e.Data["n"] != float64(i) {
			t.Fatalf("event %d is %v", i, e.Data)
		}
	}
}

// TestNoGreeting: what never greets is given up, whatever else it says.
func TestNoGreeting(t *testing.T) {
	for name, lines := range map[string][]string{
		"another protocol": {"220 mail.example.org ESMTP"},
		"a reply":          {done},
		"events alone":     events(maxEarly + 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			wait := s.background(func() {
				s.accept()
				s.conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
			})
			defer wait()
			began := time.Now()
			if c, err := Dial(limited(t), s.path, nil); err == nil {
				c.Close()
				t.Errorf("connected after %v", time.Since(began))
			} else if !strings.Contains(err.Error(), "greeting") {
				t.Error(err)
			}
		})
	}
}
