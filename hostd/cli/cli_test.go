package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	time.Local = time.UTC // events are printed in local time
	for _, name := range []string{"HOST", "TLS_CA", "TLS_CERT", "TLS_KEY"} {
		os.Unsetenv("STILLPOINT_" + name) // a developer's own
	}
	goleak.VerifyTestMain(m)
}

// specification writes one and returns its path.
func specification(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nat.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCommands runs each command for people and as JSON, and compares what it
// prints with testdata, and what the daemon was asked.
func TestCommands(t *testing.T) {
	spec := specification(t, "name: nat\n")
	for _, c := range []struct {
		name, asked string
		args        []string
	}{
		{"vm-start", `start nat.yaml "name: nat\n"`, []string{"vm", "start", spec}},
		{"vm-stop", "stop nat", []string{"vm", "stop", "nat"}},
		{"vm-list", "", []string{"vm", "list"}},
		{"protect", "protect by b, wait true: nat", []string{"protect", "nat", "--standby", "b"}},
		{"protect-no-wait", "protect by b, wait false: nat", []string{"protect", "nat", "--standby", "b", "--no-wait"}},
		{"unprotect", "unprotect nat", []string{"unprotect", "nat"}},
		{"switchover", "switchover nat", []string{"switchover", "nat"}},
		{"takeover", "takeover nat", []string{"takeover", "nat"}},
		{"scrub", "scrub nat", []string{"scrub", "nat"}},
		{"status", "", []string{"status"}},
		{"status-name", "", []string{"status", "nat"}},
		{"events", `events "", checkpoints false`, []string{"events"}},
		{"events-checkpoints", `events "nat", checkpoints true`, []string{"events", "nat", "--checkpoints"}},
		{"version", "", []string{"version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{}
			socket := serveFake(t, f)
			text := run(t, socket, c.args...)
			asJSON := run(t, socket, append(c.args, "--json")...)
			for _, r := range []result{text, asJSON} {
				if r.code != ExitOK || r.err != "" {
					t.Fatalf("exit code %d: %s", r.code, r.err)
				}
			}
			if c.asked != "" && (len(f.asked) != 2 || f.asked[0] != c.asked || f.asked[1] != c.asked) {
				t.Errorf("the daemon was asked %q, want twice %q", f.asked, c.asked)
			}
			compare(t, c.name+".txt", text.out)
			compare(t, c.name+".json", canonical(t, asJSON.out))
		})
	}
}

// TestScrubFindsDamage: it is printed, and told by the exit code.
func TestScrubFindsDamage(t *testing.T) {
	socket := serveFake(t, &fake{})
	text, asJSON := run(t, socket, "scrub", "bad"), run(t, socket, "scrub", "bad", "--json")
	for _, r := range []result{text, asJSON} {
		if r.code != ExitFailure || !strings.Contains(r.err, "protected again") {
			t.Errorf("exit code %d: %s", r.code, r.err)
		}
	}
	compare(t, "scrub-damage.txt", text.out)
	compare(t, "scrub-damage.json", canonical(t, asJSON.out))
}

// canonical checks that there is one JSON object on each line. protobuf varies
// the blanks in them on purpose.
func canonical(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if err := json.Compact(&out, []byte(line)); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"vmm"}, {"vm", "strat"}, {"vm", "start"}, {"vm", "stop"}, {"vm", "stop", "a", "b"}, {"vm", "list", "a"},
		{"protect", "nat"}, {"protect", "--standby", "b"}, {"unprotect"}, {"switchover"}, {"takeover", "a", "b"}, {"scrub"}, {"scrub", "a", "b"},
		{"status", "a", "b"}, {"status", "--bogus"}, {"events", "a", "b"}, {"serve", "file"}, {"version", "a"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			r := run(t, filepath.Join(t.TempDir(), "none"), args...)
			if r.code != ExitUsage || !strings.HasPrefix(r.err, "hostd: ") || r.out != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"", "serve", "witness", "member", "supervise", "console", "vm", "vm start", "vm stop", "vm list", "protect", "unprotect", "status", "events", "switchover", "takeover", "scrub", "version", "completion"} {
		r := run(t, "", append(strings.Fields(command), "--help")...)
		if r.code != ExitOK || !strings.Contains(r.out, "Usage:") {
			t.Errorf("%q: %+v", command, r)
		}
	}
}

func TestFailures(t *testing.T) {
	f := serveFake(t, &fake{})
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		name, socket string
		args, want   []string
	}{
		{"no daemon", none, []string{"status"}, []string{none, "hostd serve", "--socket"}},
		{"unknown machine", f, []string{"takeover", "nta"}, []string{`"nta"`, "machines here: nat"}},
		{"unknown machine's status", f, []string{"status", "nta"}, []string{`"nta"`, "machines here: nat"}},
		{"bad specification", f, []string{"vm", "start", specification(t, "bad")}, []string{"nat.yaml:1: name: no\n", "nat.yaml:2: cpus: no"}},
		{"no specification", f, []string{"vm", "start", none}, []string{none, "no such file"}},
		{"not a socket", specification(t, ""), []string{"status"}, []string{"nat.yaml", "does not answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, c.socket, c.args...)
			if r.code != ExitFailure || r.out != "" {
				t.Errorf("%+v", r)
			}
			for _, want := range c.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("%q does not say %q", r.err, want)
				}
			}
		})
	}
}

// open sends one event and then waits for the client to go.
type open struct {
	fake
	gone chan struct{}
}

func (o *open) Events(_ *control.EventsRequest, s grpc.ServerStreamingServer[control.Event]) error {
	defer close(o.gone)
	if err := s.Send(&control.Event{Host: "a", Kind: "started"}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

// interrupt ends the context at the first thing printed.
type interrupt struct{ cancel context.CancelFunc }

func (i interrupt) Write(b []byte) (int, error) {
	i.cancel()
	return len(b), nil
}

func TestEventsUntilInterrupted(t *testing.T) {
	o := &open{gone: make(chan struct{})}
	t.Setenv("STILLPOINT_SOCKET", serveFake(t, o))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs bytes.Buffer
	if code := Run(ctx, []string{"events"}, Options{Stdout: interrupt{cancel}, Stderr: &errs}); code != ExitOK {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	<-o.gone
}

func TestCompletionOfMachineNames(t *testing.T) {
	socket := serveFake(t, &fake{})
	for _, args := range [][]string{{"vm", "stop", ""}, {"protect", ""}, {"status", ""}, {"events", ""}, {"takeover", ""}} {
		r := run(t, socket, append([]string{"__complete"}, args...)...)
		if r.code != ExitOK || !strings.Contains(r.out, "nat\n") || !strings.Contains(r.out, "router\n") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := run(t, filepath.Join(t.TempDir(), "none"), "__complete", "status", ""); r.code != ExitOK || strings.Contains(r.out, "nat") {
		t.Errorf("without a daemon: %+v", r)
	}
}

func TestServe(t *testing.T) {
	path := specification(t, "host: a\nlisten: 10.99.0.1:7600\narbiter: {directory: /a}\nlog: {level: info, format: json}\n")
	var errs bytes.Buffer
	serve := func(_ context.Context, c config.Config, log hclog.Logger) error {
		log.Info("serving", "host", c.Host)
		return errors.New("no luck")
	}
	code := Run(t.Context(), []string{"serve", "--config", path}, Options{Serve: serve, Stdout: &errs, Stderr: &errs})
	log, _, _ := strings.Cut(errs.String(), "\n")
	if code != ExitFailure || canonical(t, log) == "" || !strings.Contains(errs.String(), "no luck") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if r := run(t, "", "serve", "--config", specification(t, "host: a\n")); r.code != ExitFailure || !strings.Contains(r.err, "nat.yaml: listen:") {
		t.Errorf("%+v", r)
	}
}

// TestALogThatIsNotRead holds up neither what machines depend on nor its end; and its
// error is the log's last word.
func TestALogThatIsNotRead(t *testing.T) {
	file := specification(t, "host: a\nlisten: 10.99.0.1:7600\narbiter: {directory: /a}\n")
	for _, part := range []string{"serve", "supervise"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		chatter := func(_ context.Context, _ config.Config, log hclog.Logger) error {
			for n := range 1000 {
				log.Error("nobody reads this", "n", n, "more", strings.Repeat("x", 1000))
			}
			return errors.New("the end")
		}
		code := Run(t.Context(), []string{part, "--config", file}, Options{Stderr: w, Serve: chatter, Supervise: chatter})
		if code != ExitFailure {
			t.Errorf("%s: exit code %d", part, code)
		}
		r.Close() // lets the log's goroutine go
		w.Close()
	}
	var said bytes.Buffer
	Run(t.Context(), []string{"serve", "--config", file}, Options{Stderr: &said,
		Serve: func(context.Context, config.Config, hclog.Logger) error { return errors.New("the end") }})
	if said.String() != "hostd: the end\n" {
		t.Errorf("it says %q", said.String())
	}
}
