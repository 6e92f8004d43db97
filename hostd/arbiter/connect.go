package arbiter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

const (
	dialLimit = time.Second
	// deadAfter is how long sent bytes may stay unacknowledged, and how long
	// an idle connection may be without a sign of the other kernel.
	deadAfter = 2 * time.Second
)

// connectOptions make the client find out soon that a connection is dead, and
// try again soon. TCP's own probes do that: gRPC's pings come every ten seconds
// at the most, and etcd's servers hang up on clients that ping while idle.
func connectOptions() []grpc.DialOption {
	d := net.Dialer{
		Timeout:         dialLimit,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2},
		Control:         setUserTimeout,
	}
	return []grpc.DialOption{
		// It also keeps proxies of the environment out of the way.
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: dialLimit,
		}),
		grpc.WithIdleTimeout(0),
	}
}

// named makes a server prove the name of the configuration. gRPC would want the
// endpoint's address in its certificate, whatever the configuration says.
type named struct {
	credentials.TransportCredentials
	name string
}

func (n named) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return n.TransportCredentials.ClientHandshake(ctx, n.name, conn)
}

func (n named) Clone() credentials.TransportCredentials {
	return named{n.TransportCredentials.Clone(), n.name}
}

func setUserTimeout(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// try is one attempt of a call.
type try struct {
	// whole is the call's context; the attempt's ends sooner.
	whole context.Context
	// err is gRPC's. etcd's client replaces it by the context's, but
	// "connection refused" is of more use than "deadline exceeded".
	err error
}

type tryKey struct{}

func keepReason(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, cc, opts...)
	if t, ok := ctx.Value(tryKey{}).(*try); ok {
		t.err = err
	}
	return err
}

// login gets a token with name and password when the first request needs one,
// and again when the cluster no longer knows it. etcd's client does this too,
// but only if it reaches the cluster when it is made.
type login struct {
	username, password string

	mu    sync.Mutex
	token string
}

func (l *login) intercept(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == etcdserverpb.Auth_Authenticate_FullMethodName {
		return invoke(ctx, method, request, reply, cc, opts...)
	}
	for repeated := false; ; repeated = true {
		token, err := l.current(ctx, cc)
		if err != nil {
			return err
		}
		with := ctx
		if token != "" {
			with = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
		}
		err = invoke(with, method, request, reply, cc, opts...)
		if repeated || !isStaleToken(err) {
			return err
		}
		l.drop(token)
	}
}

// isStaleToken: nothing was done, for want of a token that holds.
func isStaleToken(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrUserEmpty) ||
		errors.Is(err, rpctypes.ErrAuthOldRevision)
}

// current is empty where the cluster asks nobody for a name.
func (l *login) current(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	l.mu.Lock()
	token := l.token
	l.mu.Unlock()
	if token != "" {
		return token, nil
	}
	// A member checks a password slowly, by intent: that may take longer than
	// an attempt.
	if t, ok := ctx.Value(tryKey{}).(*try); ok {
		ctx = t.whole
	}
	answer, err := etcdserverpb.NewAuthClient(cc).Authenticate(ctx,
		&etcdserverpb.AuthenticateRequest{Name: l.username, Password: l.password}, grpc.WaitForReady(true))
	if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("log in to etcd as %s: %w", l.username, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = answer.Token
	return l.token, nil
}

func (l *login) drop(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == token {
		l.token = ""
	}
}
