package pair_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	. "github.com/stillpoint-ft/stillpoint/hostd/pair"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestTranscripts plays the scenarios in testdata. A line without indentation
// is a command: a host and an event, with its fields as name=value. Below it
// stand the effects and the role that it led to. A comment begins with #.
// Hosts are a and b; "a new" gives the host a new role machine.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if got == string(text) {
				return
			}
			if !*update {
				t.Fatalf("%s differs (rewrite it with -update, and review the change); now:\n%s", file, got)
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func play(text string) (string, error) {
	machines := map[string]*Machine{"a": New("a", "nat"), "b": New("b", "nat")}
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "  "):
			continue
		case line == "", strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) < 2 || machines[words[0]] == nil {
			return "", fmt.Errorf("line %d: want host and event: %q", i+1, line)
		}
		if words[1] == "new" {
			machines[words[0]] = New(words[0], "nat")
			continue
		}
		e, err := parseEvent(words[1], words[2:])
		if err != nil {
			return "", fmt.Errorf("line %d: %w", i+1, err)
		}
		m := machines[words[0]]
		for _, effect := range m.Step(e) {
			out.WriteString("  " + written(effect) + "\n")
		}
		fmt.Fprintf(&out, "  = %s, generation %d\n", m.Role(), m.Generation())
	}
	return out.String(), nil
}

// written is an effect as a transcript has it.
func written(effect Effect) string {
	if r, ok := effect.(Report); ok {
		return fmt.Sprintf("Report %s: %s", r.Kind, r.Message)
	}
	v := reflect.ValueOf(effect)
	s := v.Type().Name()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			s += fmt.Sprintf(" %s=%v", strings.ToLower(v.Type().Field(i).Name), v.Field(i))
		}
	}
	return s
}

// kinds of events, by name.
func kinds() map[string]Event {
	all := []Event{Started{}, Protect{}, Unprotect{}, SwitchoverAsked{}, StandbyPrepared{}, SeedFailed{}, EpochCaptured{},
		EpochAcked{}, PeerTookOver{}, BecomeStandby{}, RoleGranted{}, EpochStored{}, PeerMachineLost{}, HandedOver{},
		TakeoverAsked{}, Running{}, TakeoverFailed{}, StandbyDropped{}, LinkLost{}, MachineLost{}, Granted{}, Denied{},
		ArbiterSilent{}, RetryDue{}, Stop{}}
	byName := make(map[string]Event, len(all))
	for _, e := range all {
		byName[reflect.TypeOf(e).Name()] = e
	}
	return byName
}

func parseEvent(name string, fields []string) (Event, error) {
	kind, ok := kinds()[name]
	if !ok {
		return nil, fmt.Errorf("no event %q", name)
	}
	v := reflect.New(reflect.TypeOf(kind)).Elem()
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		field := v.FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, key) })
		if !field.IsValid() {
			return nil, fmt.Errorf("event %s has no field %q", name, key)
		}
		if err := set(field, value); err != nil {
			return nil, fmt.Errorf("event %s, field %s: %w", name, key, err)
		}
	}
	return v.Interface().(Event), nil
}

func set(field reflect.Value, value string) error {
	switch field.Kind() {
	case reflect.Uint64:
		n, err := strconv.ParseUint(value, 10, 64)
		field.SetUint(n)
		return err
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		field.SetBool(b)
		return err
	default:
		field.SetString(strings.ReplaceAll(value, "_", " "))
		return nil
	}
}
