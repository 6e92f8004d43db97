package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// authority makes a directory with an authority and hosts.
func authority(t *testing.T, o pki.InitOptions) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := pki.Init(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ab is an authority with hosts a, where commands are given, and b, which
// serves them.
func ab(t *testing.T) string { return authority(t, pki.InitOptions{Hosts: []string{"a", "b"}}) }

func files(dir, host string) pki.Files {
	return pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, host+".crt"), Key: filepath.Join(dir, host+".key")}
}

// as are the flags by which host a gives commands.
func as(f pki.Files, address string, more ...string) []string {
	return append([]string{"--host", address, "--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key}, more...)
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serveRemote serves the fake as a daemon's port does, with a host's files, and
// returns its address.
func serveRemote(t *testing.T, h control.HostdServer, f pki.Files, o pki.Options) string {
	t.Helper()
	id, err := pki.Load(f, o)
	if err != nil {
		t.Fatal(err)
	}
	l := listenLoopback(t)
	m := pki.NewMux(l, id.Server("h2", "other"), nil)
	commands := m.Listener("h2")
	s := grpc.NewServer(grpc.Creds(pki.AlreadySecure()))
	if h != nil {
		control.RegisterHostdServer(s, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	owned.Go(func() {
		if err := m.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	owned.Go(func() {
		if err := s.Serve(commands); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); s.Stop(); owned.Wait() })
	return l.Addr().String()
}

// TestRemoteCommands: another host's daemon answers as this host's does.
func TestRemoteCommands(t *testing.T) {
	dir, f := ab(t), &fake{}
	address := serveRemote(t, f, files(dir, "b"), pki.Options{})
	spec := specification(t, "name: nat\n")
	for name, args := range map[string][]string{
		"vm-start": {"vm", "start", spec}, "vm-list": {"vm", "list"}, "status": {"status"}, "takeover": {"takeover", "nat"},
		"protect": {"protect", "nat", "--standby", "b"}, "events-checkpoints": {"events", "nat", "--checkpoints"},
	} {
		for _, more := range [][]string{nil, {"--host-name", "b"}} {
			r := run(t, "/none", append(args, as(files(dir, "a"), address, more...)...)...)
			if r.code != ExitOK || r.err != "" {
				t.Fatalf("%s: %+v", name, r)
			}
			compare(t, name+".txt", r.out)
		}
	}
	if len(f.asked) == 0 || !strings.Contains(strings.Join(f.asked, "\n"), "takeover nat") {
		t.Errorf("the daemon was asked %q", f.asked)
	}
}

func TestRemoteByEnvironment(t *testing.T) {
	dir := ab(t)
	address := serveRemote(t, &fake{}, files(dir, "b"), pki.Options{})
	f := files(dir, "a")
	for name, value := range map[string]string{"HOST": address, "TLS_CA": f.CA, "TLS_CERT": f.Cert, "TLS_KEY": f.Key} {
		t.Setenv("STILLPOINT_"+name, value)
	}
	if r := run(t, "/none", "vm", "list"); r.code != ExitOK {
		t.Errorf("%+v", r)
	}
	// What the command line says goes first.
	if r := run(t, "/none", "vm", "list", "--socket", "/no/socket"); r.code != ExitFailure || !strings.Contains(r.err, "no daemon at /no/socket") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "/no/socket", "vm", "list", "--host", ""); r.code != ExitFailure || !strings.Contains(r.err, "no daemon at /no/socket") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "/none", "vm", "list", "--host-name", "c"); r.code != ExitFailure || !strings.Contains(r.err, `is not "c"`) {
		t.Errorf("%+v", r)
	}
	if r := run(t, "/none", "__complete", "status", ""); r.code != ExitOK || !strings.Contains(r.out, "nat\n") {
		t.Errorf("%+v", r)
	}
}

// TestRemoteUsageErrors: a command line that could mean two daemons reaches
// neither.
func TestRemoteUsageErrors(t *testing.T) {
	f := &fake{}
	socket := serveFake(t, f)
	for _, args := range []string{
		"--host b", "--host :7600", "--host b:", "--host b:1 --socket /s", "--host b:1 --host-name=",
		"--host-name b", "--tls-ca x", "--tls-cert x", "--tls-key x", "--host= --host-name b",
	} {
		r := run(t, socket, append([]string{"takeover", "nat"}, strings.Fields(args)...)...)
		if r.code != ExitUsage || r.out != "" || !strings.HasPrefix(r.err, "hostd: --") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	t.Setenv("STILLPOINT_HOST", "b")
	if r := run(t, socket, "takeover", "nat"); r.code != ExitUsage {
		t.Errorf("%+v", r)
	}
	if len(f.asked) != 0 {
		t.Errorf("the daemon was asked %q", f.asked)
	}
}

// TestRemoteFlagsOfOthers: commands that need no daemon do not mind.
func TestRemoteFlagsOfOthers(t *testing.T) {
	t.Setenv("STILLPOINT_HOST", "nonsense")
	for _, args := range [][]string{{"version"}, {"pki", "--help"}, {"--help"}} {
		if r := run(t, "/none", args...); r.code != ExitOK {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

func TestRemoteFailures(t *testing.T) {
	dir, strange := ab(t), ab(t)
	a, b := files(dir, "a"), files(dir, "b")
	before := func() time.Time { return time.Now().Add(-10 * time.Hour) }
	old := authority(t, pki.InitOptions{Hosts: []string{"a", "b"}, Host: time.Hour, Now: before})
	fresh := files(old, "a")
	if err := pki.Issue(old, "c", false, pki.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	good := serveRemote(t, &fake{}, b, pki.Options{})
	mixed := a
	mixed.CA = bundle(t, a.CA, files(strange, "a").CA)
	tooOpen := files(ab(t), "a")
	if err := os.Chmod(tooOpen.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	none := a
	none.Cert = "/none/host.crt"
	for _, c := range []struct {
		name, address string
		files         pki.Files
		more          string
		want          []string
	}{
		{"nobody", nobody(t), a, "", []string{"no daemon at", "connection refused", "hostd serve", "--host"}},
		{"not TLS", says(t, "220 mail.example\r\n"), a, "", []string{"does not speak TLS"}},
		{"hangs up", says(t, ""), a, "", []string{"127.0.0.1"}},
		{"another host", good, a, "--host-name c", []string{`is not "c"`, "names b, stillpoint", "--host-name"}},
		{"another authority's", serveRemote(t, &fake{}, files(strange, "b"), pki.Options{}), a, "", []string{"no authority in " + a.CA, "--tls-ca"}},
		{"our authority is strange to it", serveRemote(t, &fake{}, files(strange, "b"), pki.Options{}), mixed, "", []string{"refuses this connection", "unknown certificate authority", "hostd pki show"}},
		{"its time is over", serveRemote(t, &fake{}, files(old, "b"), pki.Options{Now: before}), files(old, "c"), "", []string{"not valid", "expired", "--renew"}},
		{"our time is over", good, fresh, "", []string{"expired"}},
		{"no certificate", good, none, "", []string{"/none/host.crt", "hostd pki init", "--tls-cert"}},
		{"key open to others", good, tooOpen, "", []string{"accessible to users other than its owner", "0600"}},
		{"other protocols", serveRemote(t, nil, b, pki.Options{}), a, "", []string{"does not know this command"}},
		{"unknown machine", good, a, "", []string{`"nta"`, "machines here: nat"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"takeover", "nta"}, as(c.files, c.address, strings.Fields(c.more)...)...)
			r := run(t, "/none", args...)
			if r.code != ExitFailure || r.out != "" || strings.Contains(r.err, "rpc error") || strings.Contains(r.err, "desc =") {
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

// bundle joins files.
func bundle(t *testing.T, paths ...string) string {
	t.Helper()
	var all []byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	path := filepath.Join(t.TempDir(), "bundle.crt")
	if err := os.WriteFile(path, all, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	l := listenLoopback(t)
	l.Close()
	return l.Addr().String()
}

// says is the address of a server that says one thing and hangs up.
func says(t *testing.T, what string) string {
	l := listenLoopback(t)
	var owned sync.WaitGroup
	owned.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, what)
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); owned.Wait() })
	return l.Addr().String()
}

// whoAsks answers with who asks.
type whoAsks struct{ fake }

func (*whoAsks) Status(ctx context.Context, _ *control.StatusRequest) (*control.StatusReply, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, status.Errorf(codes.Internal, "%T", p.AuthInfo)
	}
	name, err := pki.PeerName(info.State)
	return &control.StatusReply{Host: name, Version: fmt.Sprintf("%x %s", info.State.Version, info.State.NegotiatedProtocol)}, err
}

// TestRemotePeer: the other daemon knows who commands it, over TLS 1.3.
func TestRemotePeer(t *testing.T) {
	dir := ab(t)
	r := run(t, "/none", append([]string{"status"}, as(files(dir, "a"), serveRemote(t, &whoAsks{}, files(dir, "b"), pki.Options{}))...)...)
	if r.code != ExitOK || !strings.Contains(r.out, "host a, hostd 304 h2,") {
		t.Errorf("%+v", r)
	}
}

// TestRemoteInterrupted: neither a server that never speaks TLS nor one that
// says nothing after the handshake holds up who interrupts.
func TestRemoteInterrupted(t *testing.T) {
	dir := ab(t)
	id, err := pki.Load(files(dir, "b"), pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, handshake := range map[string]func(net.Conn) error{
		"silent":        func(net.Conn) error { return nil },
		"silent in TLS": func(c net.Conn) error { return tls.Server(c, id.Server("h2")).Handshake() },
	} {
		t.Run(name, func(t *testing.T) {
			l := listenLoopback(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var owned sync.WaitGroup
			owned.Go(func() {
				conn, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				if err := handshake(conn); err != nil {
					t.Error(err)
				}
				cancel()
				io.Copy(io.Discard, conn)
			})
			var out bytes.Buffer
			begin := time.Now()
			code := Run(ctx, append([]string{"status"}, as(files(dir, "a"), l.Addr().String())...), Options{Stdout: &out, Stderr: &out})
			if code != ExitFailure || time.Since(begin) > connectLimit {
				t.Errorf("exit code %d after %v: %s", code, time.Since(begin), out.String())
			}
			owned.Wait()
		})
	}
}

// TestAdmittedEndsWithItsContext, whoever else closes the connection.
func TestAdmittedEndsWithItsContext(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := admitted(ctx, near)
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(connectLimit):
		t.Error("it waits on")
		near.Close()
		<-done
	}
}

func TestRemoteFlagsInHelp(t *testing.T) {
	r := run(t, "", "status", "--help")
	for _, want := range []string{"--host HOST:PORT", "--host-name NAME", "--tls-ca FILE", "--tls-cert FILE", "--tls-key FILE", "STILLPOINT_HOST", "STILLPOINT_TLS_KEY", "/etc/stillpoint/pki/host.key"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
}
