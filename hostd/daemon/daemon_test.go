package daemon_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/console"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// asFalseQEMU is set where a daemon runs this test binary as its QEMU.
const asFalseQEMU = "STILLPOINT_TEST_FALSE_QEMU"

// asKeeper is set where it runs it as the keeper of what a machine prints.
const asKeeper = "STILLPOINT_TEST_CONSOLE"

// settled gives processes that were killed the time that they need to end: whoever waits
// for them is no leak.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for until := time.Now().Add(time.Minute); goleak.Find() != nil && time.Now().Before(until); {
	}
	return code
}

func TestMain(m *testing.M) {
	if os.Getenv(asFalseQEMU) != "" {
		fmt.Fprintln(os.Stderr, falseqemu.Play(os.Args[1:]))
		os.Exit(1)
	}
	if os.Getenv(asKeeper) != "" {
		limit, _ := strconv.ParseInt(os.Args[1], 10, 64)
		if err := console.KeepAll(3, os.Args[2:], limit, hclog.NewNullLogger()); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(settled{m})
}

// patience is far more than anything here takes.
const patience = 2 * time.Minute

// detectionLimit of the hosts of tests.
const detectionLimit = 2 * time.Second

// host is a daemon in this process.
type host struct {
	t      *testing.T
	config config.Config
	client control.HostdClient
	conn   *grpc.ClientConn
	end    context.CancelFunc
	served chan error
	store  *arbiter.Directory
	asked  daemon.Arbiter // what the daemon knows of it
	adjust func(*daemon.Options)
}

// pairOfHosts serves two daemons, a and b, that know each other and nobody on
// "nowhere".
func pairOfHosts(t *testing.T) (a, b *host) {
	t.Helper()
	return pairOfHostsWith(t, func(*config.Config) {})
}

// pairOfHostsWith changes their configuration first.
func pairOfHostsWith(t *testing.T, configure func(*config.Config)) (a, b *host) {
	t.Helper()
	dir := t.TempDir()
	addresses := [3]string{freeAddress(t), freeAddress(t), freeAddress(t)}
	if err := os.Mkdir(filepath.Join(dir, "arbiter"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := pki.Init(filepath.Join(dir, "pki"), pki.InitOptions{Hosts: []string{"a", "b", "nowhere"}}); err != nil {
		t.Fatal(err)
	}
	configs := [2]config.Config{
		configOf(t, dir, "a", addresses[0], config.Peer{Name: "b", Address: addresses[1]}, config.Peer{Name: "nowhere", Address: addresses[2]}),
		configOf(t, dir, "b", addresses[1], config.Peer{Name: "a", Address: addresses[0]}),
	}
	for i := range configs {
		configure(&configs[i])
	}
	return newHost(t, configs[0]), newHost(t, configs[1])
}

// identityOf a host whose files pairOfHosts has made.
func identityOf(dir, host string) *pki.Identity {
	id, err := pki.Load(pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, host+".crt"), Key: filepath.Join(dir, host+".key")}, pki.Options{})
	if err != nil {
		panic(err)
	}
	return id
}

// dialAs connects to the host as another one.
func (h *host) dialAs(name string) net.Conn {
	h.t.Helper()
	dialer := tls.Dialer{Config: identityOf(filepath.Dir(h.config.TLS.CA), name).Client(h.config.Host, "stillpoint-replica")}
	conn, err := dialer.DialContext(h.ctx(), "tcp", h.config.Listen)
	if err != nil {
		h.t.Fatal(err)
	}
	return conn
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func configOf(t *testing.T, dir, name, listen string, peers ...config.Peer) config.Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Host, c.Listen, c.Peers = name, listen, peers
	c.StateDir, c.RunDir, c.RAMDir = filepath.Join(dir, name, "state"), filepath.Join(dir, name, "run"), filepath.Join(dir, name, "ram")
	c.ControlSocket = filepath.Join(dir, name+".sock")
	c.TLS.CA = filepath.Join(dir, "pki", "ca.crt")
	c.Arbiter.Directory = filepath.Join(dir, "arbiter")
	c.Detection.Heartbeat, c.Detection.Limit = yamlfile.Duration(100*time.Millisecond), yamlfile.Duration(detectionLimit)
	c.QEMU.Binary = filepath.Join(dir, "qemu-"+name)
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asFalseQEMU, self)
	if err := os.WriteFile(c.QEMU.Binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

func newHost(t *testing.T, c config.Config) *host {
	t.Helper()
	h := &host{t: t, config: c, served: make(chan error, 1)}
	store, err := arbiter.OpenDirectory(h.config.Arbiter.Directory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h.store, h.asked = store, store
	h.serve()
	h.conn, err = grpc.NewClient("unix:"+h.config.ControlSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	h.client = control.NewHostdClient(h.conn)
	t.Cleanup(h.close)
	h.awaitServing()
	return h
}

// serve begins a daemon.
func (h *host) serve() { h.serveWith(fault.None) }

func (h *host) serveWith(faults fault.Hook) {
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	o := options(h.config, h.asked)
	o.Faults = faults
	if h.adjust != nil {
		h.adjust(&o)
	}
	go func() { h.served <- daemon.Serve(ctx, o) }()
}

func (h *host) awaitServing() {
	h.t.Helper()
	h.await("the daemon to serve", func() bool {
		conn, err := net.Dial("unix", h.config.ControlSocket)
		if err != nil {
			return false // the client would wait before its next try
		}
		conn.Close()
		_, err = h.client.Status(h.ctx(), &control.StatusRequest{}) // by a connection to this daemon, not to one before it
		return err == nil
	})
}

func options(c config.Config, store daemon.Arbiter) daemon.Options {
	return daemon.Options{Config: c, Identity: identityOf(filepath.Dir(c.TLS.CA), c.Host), Arbiter: store, Faults: fault.None, Log: hclog.NewNullLogger(), Version: "test", Accel: "tcg", Keep: keep}
}

func keep(files []string, limit int64) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self, append([]string{strconv.FormatInt(limit, 10)}, files...)...)
	c.Env = append(os.Environ(), asKeeper+"=1")
	return c
}

// close stops every machine, then the daemon, which must end in good order.
func (h *host) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Others may protect their machines by this host again and again.
	for left, until := true, time.Now().Add(patience/60); left && time.Now().Before(until); {
		list, err := h.client.ListMachines(ctx, &control.ListMachinesRequest{})
		if err != nil {
			h.t.Errorf("host %s does not answer any more: %v", h.config.Host, err)
			break
		}
		for _, m := range list.Machines { // one that comes or goes just now refuses
			h.client.StopMachine(ctx, &control.MachineRequest{Name: m.Name})
		}
		left = slices.ContainsFunc(list.Machines, func(m *control.Machine) bool { return m.Role != "standby" })
	}
	h.end()
	h.conn.Close()
	select {
	case err := <-h.served:
		if err != nil {
			h.t.Error(err)
		}
	case <-ctx.Done():
		h.t.Errorf("host %s does not end", h.config.Host)
	}
}

// await polls a condition that has no event of its own.
func (h *host) await(what string, condition func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (h *host) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

func specOf(name, mode string) string {
	return fmt.Sprintf("name: %s\nmemory: 16MiB\nkernel: /boot/none\nappend: %q\nagent: {enabled: false}\nprotection: {max-epoch: 20ms}\n", name, mode)
}

func (h *host) start(name, mode string) (*control.Machine, error) {
	return h.client.StartMachine(h.ctx(), &control.StartMachineRequest{Spec: []byte(specOf(name, mode)), File: name + ".yaml"})
}

func (h *host) mustStart(name, mode string) {
	h.t.Helper()
	if _, err := h.start(name, mode); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) protect(name, standby string) error {
	_, err := h.client.Protect(h.ctx(), &control.ProtectRequest{Name: name, Standby: standby, Wait: true})
	return err
}

// machine is nil where the host does not have it.
func (h *host) machine(name string) *control.Machine {
	h.t.Helper()
	s, err := h.client.Status(h.ctx(), &control.StatusRequest{})
	if err != nil {
		h.t.Fatalf("host %s does not answer: %v", h.config.Host, err)
	}
	for _, m := range s.Machines {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// mustFail checks the code and that the error says what it is about.
func mustFail(t *testing.T, err error, code codes.Code, text ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got %v, want %v", err, code)
	}
	for _, want := range text {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
}

// witness is a protected machine that must not notice anything.
type witness struct {
	h          *host
	generation uint64
	epoch      uint64
}

func protectWitness(a *host) *witness {
	a.t.Helper()
	a.mustStart("witness", "")
	if err := a.protect("witness", "b"); err != nil {
		a.t.Fatal(err)
	}
	m := a.machine("witness")
	return &witness{a, m.Generation, m.Epoch}
}

// check wants the same role and generation as ever, and an epoch since.
func (w *witness) check() {
	w.h.t.Helper()
	w.h.await("another epoch of the witness", func() bool {
		m := w.h.machine("witness")
		if m == nil || m.Role != "protected" || m.Generation != w.generation {
			w.h.t.Fatalf("the witness is %v", m)
		}
		moved := m.Epoch > w.epoch
		w.epoch = m.Epoch
		return moved
	})
}
