package arbiter

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

const (
	// longestLine of a member's process that is kept, in bytes; of a longer one
	// the beginning.
	longestLine = 4 << 10
	// mostPlain lines are kept of what a process prints that dies: a panic
	// begins with its reason, and goes on with stacks.
	mostPlain = 6
)

// hearing is what a member's process says.
type hearing struct {
	log   hclog.Logger
	ready func()

	mu     sync.Mutex
	failed *failure // what it said when it ended by itself
	plain  []string // lines that are no log
	stacks bool     // what follows are stacks
}

// failure is the end of a member's process, as it tells it.
type failure struct {
	Error string `json:"error"`
	// Kind of those errors that the Keeper treats in their own way.
	Kind string `json:"kind,omitempty"`
}

// Kinds of failures.
const kindNoRoom = "no room"

func failureOf(err error) failure {
	f := failure{Error: err.Error()}
	if errors.Is(err, ErrNoRoom) {
		f.Kind = kindNoRoom
	}
	return f
}

func (f failure) err() error {
	if f.Kind == kindNoRoom {
		return kindError{f.Error, ErrNoRoom}
	}
	return errors.New(f.Error)
}

// kindError has another process's text.
type kindError struct {
	text string
	kind error
}

func (e kindError) Error() string { return e.text }
func (e kindError) Unwrap() error { return e.kind }

// output of the process: what it says to its keeper.
func (h *hearing) output(r io.Reader) {
	lines(r, func(line string) {
		if line == saidReady {
			h.ready()
			return
		}
		told, ok := strings.CutPrefix(line, saidFailed)
		var f failure
		if ok && json.Unmarshal([]byte(told), &f) == nil {
			h.mu.Lock()
			h.failed = &f
			h.mu.Unlock()
		}
	})
}

// errput of the process: its log in JSON, and what the runtime prints when it
// dies.
func (h *hearing) errput(r io.Reader) {
	lines(r, func(line string) {
		if !h.relay(line) {
			h.keep(line)
		}
	})
}

// relay a line of the log; false: it is none.
func (h *hearing) relay(line string) bool {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return false
	}
	message, _ := fields["@message"].(string)
	level, _ := fields["@level"].(string)
	if message == "" || level == "" {
		return false
	}
	var pairs []any
	for k, v := range fields {
		if !strings.HasPrefix(k, "@") {
			pairs = append(pairs, k, v)
		}
	}
	h.log.Log(hclog.LevelFromString(level), message, sorted(pairs)...)
	return true
}

// sorted gives pairs of a key and a value a fixed order.
func sorted(pairs []any) []any {
	both := slices.Collect(slices.Chunk(pairs, 2))
	slices.SortFunc(both, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	return slices.Concat(both...)
}

func (h *hearing) keep(line string) {
	h.log.Debug("the member's process prints", "line", line)
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(line, "goroutine ") {
		h.stacks = true
	}
	if !h.stacks && len(h.plain) < mostPlain && strings.TrimSpace(line) != "" {
		h.plain = append(h.plain, line)
	}
}

// why the process has ended, whose own end is given.
func (h *hearing) why(end error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return h.failed.err()
	}
	text := "its process ended without a word"
	var exit *exec.ExitError
	if errors.As(end, &exit) {
		text = "its process ended: " + exit.Error()
	} else if end != nil {
		text = "its process was lost: " + end.Error()
	}
	if len(h.plain) > 0 {
		text = fmt.Sprintf("%s; it printed %q", text, strings.Join(h.plain, " | "))
	}
	return errors.New(text)
}

// lines gives each line without its end, cut where it is too long.
func lines(r io.Reader, each func(string)) {
	in := bufio.NewReaderSize(r, longestLine)
	for {
		part, err := in.ReadSlice('\n')
		whole := err == nil
		if len(part) > 0 {
			each(strings.TrimRight(string(part), "\r\n"))
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			_, err = in.ReadSlice('\n')
			whole = err == nil
		}
		if !whole {
			return
		}
	}
}
