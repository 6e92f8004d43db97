package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience with a guest: it boots in some three seconds under TCG, but the
// machine that runs this may be busy.
const patience = 10 * time.Minute

// guest is a booted image; its lines end when its QEMU does.
type guest struct {
	t      *testing.T
	lines  chan string
	killed func() bool // by the end of patience
}

func boot(t *testing.T, image, commandLine string, arguments ...string) *guest {
	t.Helper()
	qemu := filepath.Join(buildDir, "bin", "qemu-system-x86_64")
	if _, err := os.Stat(qemu); err != nil {
		t.Skipf("no QEMU (%v): run make setup", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	dir := filepath.Dir(image)
	arguments = append([]string{"-accel", "tcg", "-m", "128M", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", image,
		"-append", "console=ttyS0 quiet panic=-1 " + commandLine}, arguments...)
	cmd := exec.CommandContext(ctx, qemu, arguments...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &guest{t, make(chan string), func() bool { return ctx.Err() != nil }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.read(ctx, bufio.NewScanner(out))
		_ = cmd.Wait() // killed, mostly
	}()
	t.Cleanup(func() { cancel(); <-done })
	return g
}

func (g *guest) read(ctx context.Context, console *bufio.Scanner) {
	defer close(g.lines)
	for console.Scan() {
		select {
		case g.lines <- console.Text():
		case <-ctx.Done():
		}
	}
}

// expect waits for a line that matches.
func (g *guest) expect(pattern string) string {
	g.t.Helper()
	want := regexp.MustCompile(pattern)
	var seen []string
	for line := range g.lines {
		if want.MatchString(line) {
			return line
		}
		seen = append(seen, line)
	}
	g.t.Fatalf("the guest ended without %q; its console:\n%s", pattern, strings.Join(seen, "\n"))
	return ""
}

// card is a network card that leads nowhere.
var card = []string{"-netdev", "socket,id=n0,udp=127.0.0.1:9,localaddr=127.0.0.1:0", "-device", "virtio-net-pci,netdev=n0"}

func testRestart(t *testing.T, dir string) {
	started := time.Now()
	g := boot(t, filepath.Join(dir, "nat.cpio.gz"), "stillpoint.nat=-no-such-flag stillpoint.dirty=10", card...)
	g.expect("^STILLPOINT-GUEST ready")
	t.Logf("ready after %v", time.Since(started))
	g.expect("flag provided but not defined: -no-such-flag")
	g.expect(`/nat -no-such-flag\] ended: exit status 2`)
	g.expect("flag provided but not defined: -no-such-flag")
}

func testPowerOff(t *testing.T, dir string) {
	g := boot(t, filepath.Join(dir, "plain.cpio.gz"), "stillpoint.eth7=10.1.0.1/24", card...)
	g.expect("^STILLPOINT-GUEST failed: no network card eth7")
	for range g.lines {
	}
	if g.killed() {
		t.Error("the guest went on")
	}
}

func testPlain(t *testing.T, dir string) {
	port := freePort(t)
	started := time.Now()
	g := boot(t, filepath.Join(dir, "plain.cpio.gz"), "stillpoint.eth0=10.0.2.15/24 stillpoint.shell",
		"-netdev", fmt.Sprintf("user,id=n0,hostfwd=udp:127.0.0.1:%d-:7", port), "-device", "virtio-net-pci,netdev=n0")
	g.expect("^STILLPOINT-GUEST ready")
	t.Logf("ready after %v", time.Since(started))
	go func() { // the console is read on, or the guest would wait for it
		for range g.lines {
		}
	}()
	c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A packet may be lost while the guest learns its neighbour.
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if answered(t, c, "still there") {
			return
		}
	}
	t.Error("the echo service does not answer")
}

func answered(t *testing.T, c net.Conn, text string) bool {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	buffer := make([]byte, 100)
	n, err := c.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if err != nil || string(buffer[:n]) != text {
		t.Fatalf("the echo service answered %q, %v", buffer[:n], err)
	}
	return true
}

func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}
