package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/pace"
)

const stream = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":6.5}
{"Action":"pass","Package":"p","Test":"TestParent/part","Elapsed":30}
{"Action":"pass","Package":"p","Test":"TestParent","Elapsed":30.6}
{"Action":"output","Package":"p","Test":"TestSkipped","Output":"=== RUN   TestSkipped\n"}
{"Action":"output","Package":"p","Test":"TestSkipped","Output":"    a_test.go:3: no KVM here\n"}
{"Action":"output","Package":"p","Test":"TestSkipped","Output":"--- SKIP: TestSkipped (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestSkipped"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t6.600s\n"}
{"Action":"pass","Package":"p","Elapsed":6.6}
{"Action":"output","Package":"q","Test":"TestBad","Output":"    b_test.go:4: wrong\n"}
{"Action":"output","Package":"q","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"q","Test":"TestBad"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
not JSON
{"ImportPath":"r","Action":"build-output","Output":"r.go:1: syntax error\n"}
{"Action":"output","Package":"r","Output":"FAIL\tr [build failed]\n"}
{"Action":"fail","Package":"r","FailedBuild":"r"}
`

const want = `    p TestGood: passed (6.5 s)
    p TestParent/part: passed (30.0 s)
    p TestParent: passed (30.6 s)
    a_test.go:3: no KVM here
--- SKIP: TestSkipped (0.00s)
ok  	p	6.600s
    b_test.go:4: wrong
--- FAIL: TestBad (0.00s)
FAIL	q	0.1s
not JSON
r.go:1: syntax error
FAIL	r [build failed]

slowest:   31 s  p TestParent
slowest:    6 s  p TestGood
skipped: p TestSkipped: a_test.go:3: no KVM here
failed: q TestBad
failed: r
3 passed, 1 failed, 1 skipped in 1.5 min; 1 packages did not run to their end
`

func TestSummary(t *testing.T) {
	var out bytes.Buffer
	s := newSummary(&out)
	if err := s.read(strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	s.print(90 * time.Second)
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
	if s.passedAll() {
		t.Error("failures count as passed")
	}
	if len(s.output) != 0 {
		t.Errorf("output is kept: %v", s.output)
	}
}

func TestGroups(t *testing.T) {
	for _, c := range []struct {
		args string
		want [][]string
	}{
		{"", nil},
		{"./...", [][]string{{"./..."}}},
		{"-- -race ./a -- -p 1 ./b", [][]string{{"-race", "./a"}, {"-p", "1", "./b"}}},
	} {
		if got := groups(strings.Fields(c.args)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestASlowMachineLeavesTheRaceDetectorOut(t *testing.T) {
	all := [][]string{{"-v", "./x"}, {"-race", "./hostd/..."}, {"-run", "Allocate", "./hostd/..."}, {"-race", "-p", "1", "./e2e/..."}}
	without := [][]string{{"-v", "./x"}, {"./hostd/..."}, {"-p", "1", "./e2e/..."}}
	for slowness, want := range map[float64][][]string{1: all, 2.5: all, 5: without} {
		var out bytes.Buffer
		s := newSummary(&out)
		if got := s.leaveRaceOut(all, pace.Pace{Slowness: slowness}); !reflect.DeepEqual(got, want) {
			t.Errorf("%v times slower: %q", slowness, got)
		}
		s.print(time.Minute)
		if told := strings.Contains(out.String(), "left out: the race detector; pace: "); told != (slowness == 5) {
			t.Errorf("%v times slower: the summary is %q", slowness, out.String())
		}
	}
}
