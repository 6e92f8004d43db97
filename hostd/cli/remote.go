package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// connectLimit is how long a connection, handshake included, may take.
const connectLimit = 5 * time.Second

// keepAlive finds out within 20 s that the other host is gone while a command
// waits.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}

// Flags that name another host's daemon. All but --host count only with it.
const (
	flagHost, flagHostName             = "host", "host-name"
	flagTLSCA, flagTLSCert, flagTLSKey = "tls-ca", "tls-cert", "tls-key"
)

// remote is another host's daemon, and how to know each other.
type remote struct {
	address string // "": the daemon of this host, over its socket
	name    string // that its certificate must carry
	files   pki.Files
}

// flags of a command line; the environment gives their defaults.
func (r *remote) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&r.address, flagHost, os.Getenv("STILLPOINT_HOST"),
		"talk to another host's daemon: `HOST:PORT` of its \"listen\" (environment: STILLPOINT_HOST)")
	f.StringVar(&r.name, flagHostName, pki.Cluster,
		"the `NAME` that the other host's certificate must carry; by default any host's is accepted")
	const dir = "/etc/stillpoint/pki/"
	for _, v := range []struct {
		value                       *string
		flag, variable, file, means string
	}{
		{&r.files.CA, flagTLSCA, "STILLPOINT_TLS_CA", "ca.crt", "authorities to trust with --host"},
		{&r.files.Cert, flagTLSCert, "STILLPOINT_TLS_CERT", "host.crt", "certificate to show with --host"},
		{&r.files.Key, flagTLSKey, "STILLPOINT_TLS_KEY", "host.key", "its key"},
	} {
		def := os.Getenv(v.variable)
		if def == "" {
			def = dir + v.file
		}
		f.StringVar(v.value, v.flag, def, fmt.Sprintf("%s: a PEM `FILE` (environment: %s)", v.means, v.variable))
		root.MarkPersistentFlagFilename(v.flag, "crt", "key", "pem")
	}
}

// resolve what the flags ask for together; given tells those of the command
// line from the environment's. A named socket beats a host of the
// environment. A flag that would be ignored is an error: who names a host must
// not act on this one.
func (r *remote) resolve(given func(flag string) bool) error {
	if given("socket") && !given(flagHost) {
		r.address = ""
	}
	if r.address == "" {
		for _, name := range []string{flagHostName, flagTLSCA, flagTLSCert, flagTLSKey} {
			if given(name) {
				return usageError{fmt.Errorf("--%s is only valid with --%s", name, flagHost)}
			}
		}
		return nil
	}
	if given("socket") {
		return usageError{errors.New("--socket and --host name different daemons: give only one")}
	}
	if host, port, err := net.SplitHostPort(r.address); err != nil || host == "" || port == "" {
		return usageError{fmt.Errorf("--host %q is not HOST:PORT: give the \"listen\" of the other host's daemon", r.address)}
	}
	if r.name == "" {
		return usageError{errors.New("--host-name is empty: name the other host, or leave the flag out")}
	}
	return nil
}

// connect prepares a connection by mutual TLS; it is made with the first call.
// What goes wrong with it is found in the attempt.
func (r *remote) connect() (*grpc.ClientConn, *attempt, error) {
	own, err := pki.Load(r.files, pki.Options{})
	if err != nil {
		return nil, nil, r.explainFiles(err)
	}
	a := &attempt{}
	creds := &witnessed{credentials.NewTLS(own.Client(r.name, "h2")), a}
	// No proxy: the environment's are for the web.
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(a.dial), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectLimit}), receiveLimit())
	return conn, a, err
}

func (r *remote) explainFiles(err error) error {
	err = fmt.Errorf("talk to the daemon at %s: %w", r.address, err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as the user who owns the files, or name your own with --tls-ca, --tls-cert and --tls-key", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; name the files with --tls-ca, --tls-cert and --tls-key", err)
	}
	return err
}

// explain says what to do about a daemon that cannot be reached. last is how
// the last connection failed, if it did.
func (r *remote) explain(s *status.Status, last error) error {
	at := r.address
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	switch {
	case s.Code() == codes.Unimplemented:
		return fmt.Errorf("the server at %s does not know this command: either --host is not a daemon's \"listen\" address, or the daemon has another version", at)
	case s.Code() != codes.Unavailable:
		return errors.New(s.Message())
	case refused(last):
		return fmt.Errorf("the daemon at %s refuses this connection (%w): it must trust the authority of %s, and the certificate must be valid by its clock; see \"hostd pki show %s\"",
			at, last, r.files.Cert, r.files.Cert)
	case last == nil:
		return fmt.Errorf("the daemon at %s does not answer (%s)", at, s.Message())
	case errors.Is(last, syscall.ECONNREFUSED):
		return fmt.Errorf("no daemon at %s (connection refused); start it there with \"hostd serve\", and give its \"listen\" address as --host", at)
	case errors.As(last, &unknown):
		return fmt.Errorf("no authority in %s signed the certificate of the daemon at %s: it is not one of your hosts, or --tls-ca names the wrong file", r.files.CA, at)
	case errors.As(last, &name):
		return fmt.Errorf("the daemon at %s is not %q, its certificate names %s: check --host and --host-name", at, r.name, strings.Join(name.Certificate.DNSNames, ", "))
	case errors.As(last, &invalid):
		return fmt.Errorf("the certificate of the daemon at %s is not valid (%w): renew it with \"hostd pki issue --renew\", or correct the clocks", at, invalid)
	case errors.As(last, &noTLS):
		return fmt.Errorf("the server at %s does not speak TLS: give the \"listen\" address of a daemon as --host", at)
	}
	return fmt.Errorf("the daemon at %s cannot be reached: %w", at, last)
}

// refused tells that the other side ended the connection by an alert (RFC 8446,
// section 6).
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// attempt remembers how the last connection failed. gRPC keeps only its text.
type attempt struct {
	mu   sync.Mutex
	last error
}

func (a *attempt) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = err
}

func (a *attempt) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (a *attempt) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectLimit, KeepAliveConfig: keepAlive}).DialContext(ctx, "tcp", address)
	a.note(err)
	return conn, err
}

// witnessed are credentials whose handshakes an attempt remembers.
type witnessed struct {
	credentials.TransportCredentials
	attempt *attempt
}

func (w *witnessed) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err == nil {
		if conn, err = admitted(ctx, conn); err != nil {
			raw.Close()
		}
	}
	w.attempt.note(err)
	return conn, info, err
}

func (w *witnessed) Clone() credentials.TransportCredentials {
	return &witnessed{w.TransportCredentials.Clone(), w.attempt}
}

// admitted waits for the server's first byte. In TLS 1.3 a client's handshake is
// done before the server has seen its certificate; what it then writes to a
// server that refuses it would lose the reason. A gRPC server speaks first.
func admitted(ctx context.Context, conn net.Conn) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	b := &begun{Conn: conn, first: make([]byte, 1)}
	_, err := io.ReadFull(conn, b.first)
	if !stop() {
		return nil, fmt.Errorf("wait for the daemon to speak: %w", context.Cause(ctx))
	}
	return b, err
}

// begun is a connection of which some bytes were read.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}
