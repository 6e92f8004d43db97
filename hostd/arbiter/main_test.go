package arbiter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// claimantEnv makes the test binary a claimant: "DIR HOST GENERATIONS".
const claimantEnv = "ARBITER_TEST_CLAIMANT"

func TestMain(m *testing.M) {
	if job := os.Getenv(claimantEnv); job != "" {
		if err := claimant(job); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(child(job))
	}
	os.Exit(runAndFindLeaks(m))
}

// runAndFindLeaks looks for leaks for some sixteen seconds: connections between
// etcd's members outlive them by up to two read time-outs of five.
func runAndFindLeaks(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	var leaks error
	for range 8 {
		if leaks = goleak.Find(); leaks == nil {
			return 0
		}
	}
	fmt.Println("goroutines left:", leaks)
	return 1
}

// claimant claims each generation after its line has come on standard input,
// so that all processes begin it together.
func claimant(job string) error {
	var dir, host string
	var generations uint64
	if _, err := fmt.Sscan(job, &dir, &host, &generations); err != nil {
		return err
	}
	d, err := OpenDirectory(dir)
	if err != nil {
		return err
	}
	start := bufio.NewScanner(os.Stdin)
	for g := uint64(0); g < generations && start.Scan(); g++ {
		_, err := d.TestAndSet(context.Background(), g, Record{Machine: "nat", Voice: host, Kind: "takeover"})
		var lost *LostError
		switch {
		case err == nil:
			fmt.Println("won")
		case errors.As(err, &lost):
			fmt.Println("lost to", lost.Winner.Voice)
		default:
			return err
		}
	}
	return nil
}

type process struct {
	host   string
	start  interface{ WriteString(string) (int, error) }
	answer *bufio.Scanner
}

func startClaimant(t *testing.T, dir, host string, generations int) process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", claimantEnv, dir, host, generations))
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	answers, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() { out.Close(); cmd.Wait() })
	return process{host, out, bufio.NewScanner(answers)}
}

func TestManyProcessesOneWinnerEachGeneration(t *testing.T) {
	const generations = 20
	dir := t.TempDir()
	var all []process
	for i := range 6 {
		all = append(all, startClaimant(t, dir, fmt.Sprintf("host%d", i), generations))
	}
	for g := range generations {
		for _, p := range all {
			if _, err := p.start.WriteString("go\n"); err != nil {
				t.Fatal(err)
			}
		}
		winner, claims := "", map[string]string{}
		for _, p := range all {
			if !p.answer.Scan() {
				t.Fatalf("%s ended in generation %d: %v", p.host, g, p.answer.Err())
			}
			claims[p.host] = p.answer.Text()
			if p.answer.Text() == "won" {
				if winner != "" {
					t.Fatalf("generation %d: %s and %s won", g, winner, p.host)
				}
				winner = p.host
			}
		}
		for host, answer := range claims {
			if host != winner && strings.TrimPrefix(answer, "lost to ") != winner {
				t.Fatalf("generation %d: %s won, %s says %q", g, winner, host, answer)
			}
		}
	}
	onlyRecords(t, dir, "nat", generations)
}
