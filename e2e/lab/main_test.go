package lab

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// role makes the test binary play a program of the lab.
const role = "STILLPOINT_LAB_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "daemon":
		playDaemon()
	case "qemu", "supervisor":
		waitForever()
	case "maker":
		playMaker()
	default:
		goleak.VerifyTestMain(m)
	}
}

// waitForever ends by SIGKILL only.
func waitForever() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	select {}
}

// startQEMU starts what lab takes for a machine: it outlives the daemon.
func startQEMU(machine string) error {
	return startDetached("qemu", "-name", machine+",process=x")
}

// startSupervisor starts what lab takes for the supervisor.
func startSupervisor() error { return startDetached("supervisor", "supervise") }

func startDetached(as string, args ...string) error {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
