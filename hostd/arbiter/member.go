package arbiter

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const (
	// quota of a member's records and their recent versions. One record is
	// some 300 bytes.
	quota = 64 << 20
	// compactAfter is how long earlier versions of a record are kept.
	compactAfter = "1h"
	// snapshotCount and catchUp, in claims, bound the log: a member that was
	// away for more gets all the records instead.
	snapshotCount, catchUp = 2000, 500
	maxLogs                = 2
	// etcd lays out its log 64 MB at a time, one ahead. A new member needs
	// roomNew free bytes, one with data roomAgain; one that runs ends in good
	// order when less than roomLeft are free.
	roomNew, roomAgain, roomLeft = 192 << 20, 112 << 20, 32 << 20
	// roomEvery is how often a running member looks.
	roomEvery = time.Second
	// closeLimit bounds Close. etcd itself takes up to seven seconds each for
	// a leader to hand over and for connections to end.
	closeLimit = 20 * time.Second
)

const (
	defaultHeartbeat = 100 * time.Millisecond
	defaultElection  = time.Second
)

// ErrNoRoom: the disk of a member is full or nearly so. It can be started once
// there is room.
var ErrNoRoom = errors.New("no room")

// Peer is one member of a cluster as all of them know it.
type Peer struct {
	Name string
	// Peer is the host:port at which the other members reach it.
	Peer string
}

// MemberOptions describe one member of an embedded cluster.
type MemberOptions struct {
	// Name of this member in Cluster.
	Name string
	// Dir holds the member's data and nothing else. It is made with mode 0700.
	Dir string
	// Peer and Client are the ip:port to listen on and to be reached at, for
	// the other members and for Etcd.
	Peer, Client string
	// Cluster lists all members, this one too, the same on each. It counts
	// only until Dir has data; then the data says who the members are.
	Cluster []Peer
	// Join makes a member without data join a cluster that runs and has been
	// told of it (etcdctl member add), instead of beginning one.
	Join bool
	// CertFile, KeyFile and CAFile make everything mutual TLS 1.3: members
	// and clients need a certificate of the CA for ServerName, good for
	// server and client. Certificate and key are read at every handshake, the
	// CA when the member starts. All empty: plain HTTP.
	CertFile, KeyFile, CAFile string
	// ServerName must be a DNS name in every certificate. Addresses are not
	// compared with certificates, nor looked up.
	ServerName string
	// Heartbeat and Election are how often a leader is heard, and after what
	// silence a new one is elected; 0: 100 ms and 1 s. The same on all members.
	Heartbeat, Election time.Duration
	// Log gets etcd's messages, each one level down; nil: none.
	Log hclog.Logger

	// free tells how many bytes are free in a directory; nil: the file
	// system does.
	free func(dir string) (uint64, error)
}

// Member is an etcd server inside this process, which should be one of its own:
// a damaged database can end it whole (Keeper, Attend).
//
// When its disk is nearly full it ends in good order, and says so on Err, with
// ErrNoRoom. Close it then; StartMember refuses until there is room. When etcd
// cannot write all the same it gives up: it answers no client from then on, and
// Err tells why. What is left of it ends with the process only, and so do its
// locks. What the member had acknowledged is on its disk in each case.
type Member struct {
	options MemberOptions
	lock    *os.File
	front   *front // nil without TLS
	// etcd is nil until StartEtcd has returned.
	etcd *embed.Etcd

	// verified is closed when its records are known to be what it acknowledged.
	verified chan struct{}

	// leaving ends calls that wait for a quorum.
	leaving context.Context
	leave   context.CancelFunc
	fatal   chan error
	err     chan error
	owned   sync.WaitGroup
	closing sync.Once
	closed  error
}

// StartMember starts a member. It waits for no other: see Ready.
//
// A directory with data takes up its membership again, whether the cluster runs
// or begins to. One without begins a cluster, which fails if the others
// know this member already: its data was lost then, and it must be replaced.
func StartMember(o MemberOptions) (*Member, error) {
	if o.free == nil {
		o.free = freeBytes
	}
	m := &Member{options: o, fatal: make(chan error, 1), err: make(chan error, 1), verified: make(chan struct{})}
	m.leaving, m.leave = context.WithCancel(context.Background())
	cfg, err := o.config(m)
	if err == nil {
		err = m.start(o, cfg)
	}
	if err != nil {
		m.leave()
		return nil, fmt.Errorf("start arbiter member %s in %s: %w", o.Name, o.Dir, err)
	}
	unfit := make(chan error, 1)
	m.owned.Go(func() {
		if err := m.verify(); err != nil && m.leaving.Err() == nil {
			unfit <- err
		}
	})
	m.owned.Go(func() { m.watch(unfit) })
	return m, nil
}

// Ready is closed once the member is part of a cluster that has a quorum. It
// answers from a moment later, when its records are compared with what it had
// acknowledged; where they are not that, it ends with ErrDamaged.
func (m *Member) Ready() <-chan struct{} { return m.etcd.Server.ReadyNotify() }

// Err gives the reason if the member ends other than by Close. It is closed
// by Close.
func (m *Member) Err() <-chan error { return m.err }

// Close ends the member and waits for its goroutines: a second or two as a
// rule, twenty at the most. A leader hands over first. Connections of other
// members may outlive it by ten seconds. After an error the directory stays
// locked until the process ends.
func (m *Member) Close() error {
	m.closing.Do(func() {
		m.leave()
		m.owned.Wait()
		close(m.err)
		m.closed = m.stop()
	})
	return m.closed
}

// start locks the directory and runs StartEtcd in a goroutine of its own: a fatal
// error of etcd's ends the goroutine that it happens in.
func (m *Member) start(o MemberOptions, cfg *embed.Config) (err error) {
	if m.lock, err = o.lockDir(); err != nil {
		return err
	}
	if err := o.checkData(); err != nil {
		return errors.Join(err, m.lock.Close())
	}
	if o.Join && !wal.Exist(filepath.Join(o.Dir, "member", "wal")) {
		err := o.checkJoin(cfg)
		if err == nil {
			// The mark is of the member whose place this one takes.
			if err = os.Remove(o.markFile()); errors.Is(err, os.ErrNotExist) {
				err = nil
			}
		}
		if err != nil {
			return errors.Join(err, m.lock.Close())
		}
	}
	if o.secure() {
		if m.front, err = o.openFront(cfg); err != nil {
			return errors.Join(err, m.lock.Close())
		}
	}
	type outcome struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan outcome, 1)
	go func() { // it ends here, or with a fatal error, or with the process
		etcd, err := embed.StartEtcd(cfg)
		started <- outcome{etcd, err}
	}()
	select {
	case o := <-started:
		m.etcd, err = o.etcd, o.err
	case why := <-m.fatal:
		// It may have been in another goroutine, for which that one waits. Parts
		// of etcd may still run: the lock stays.
		return fmt.Errorf("etcd gave up: %w", why)
	}
	if err != nil {
		m.etcd = nil
		return errors.Join(o.explain(err), m.front.close(), m.lock.Close())
	}
	if m.front != nil {
		m.front.serve()
	}
	return nil
}

// explain adds what to do to errors of etcd's that an operator meets.
func (o MemberOptions) explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "has already been bootstrapped"):
		return fmt.Errorf("%w: the cluster knows this member, but its data is gone. "+
			"It must not begin anew under its old identity: %s", err, o.replacing())
	case strings.Contains(text, "error validating peerURLs"), strings.Contains(text, "member count is unequal"):
		return fmt.Errorf("%w: the running cluster has other members than the configuration: "+
			"add this one there first (etcdctl member add %s --peer-urls=%s), and list the same members here",
			err, o.Name, o.url(o.Peer))
	case strings.Contains(text, "cannot fetch cluster info"):
		return fmt.Errorf("%w: a member can only join a running cluster", err)
	}
	return err
}

// watch reports the first reason for which the member ends by itself.
func (m *Member) watch(unfit <-chan error) {
	var why error
	select {
	case <-m.leaving.Done():
		return
	case why = <-m.fatal:
	case why = <-m.etcd.Err():
	case why = <-m.crowded():
	case why = <-unfit:
	case <-m.etcd.Server.StopNotify():
		why = errors.New("it was removed from its cluster, or its data does not match that of the others; replace it")
	}
	if why == nil {
		why = errors.New("it stopped serving")
	}
	// Nothing must be answered by what is left.
	m.leave()
	m.err <- fmt.Errorf("arbiter member ended: %w", why)
}

// crowded tells when the disk is nearly full.
func (m *Member) crowded() <-chan error {
	full := make(chan error, 1)
	m.owned.Go(func() {
		look := time.NewTicker(roomEvery)
		defer look.Stop()
		for {
			select {
			case <-m.leaving.Done():
				return
			case <-look.C:
			}
			if err := m.options.checkRoom(roomLeft); errors.Is(err, ErrNoRoom) {
				full <- err
				return
			}
		}
	})
	return full
}

func (m *Member) stop() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-m.etcd.Server.ReadyNotify():
		default:
			// embed.Etcd.Close would wait for its client port to begin to serve.
			m.etcd.Server.Stop()
		}
		m.etcd.Close()
	}()
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		for _, l := range m.etcd.Clients {
			l.Close()
		}
		for _, l := range m.etcd.Peers {
			l.Close()
		}
		return fmt.Errorf("the arbiter member hangs and was abandoned; it ends with its process")
	}
	return errors.Join(m.front.close(), m.lock.Close())
}

// gaveUp takes the place of zap's hooks that end the process. The goroutine
// that failed ends where it is.
type gaveUp struct{ to chan<- error }

func (g gaveUp) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	why := errors.New(e.Message)
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			why = fmt.Errorf("%s: %w", e.Message, err)
		}
	}
	select {
	case g.to <- why:
	default: // the first one counts
	}
	runtime.Goexit()
}

// while ends a call when the member leaves: etcd would let it wait.
func (m *Member) while(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.leaving, cancel)()
	select {
	case <-m.verified:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return handle(ctx, request)
}

func (o MemberOptions) secure() bool { return o.CertFile != "" || o.KeyFile != "" || o.CAFile != "" }

func (o MemberOptions) url(address string) *url.URL {
	if o.secure() {
		return &url.URL{Scheme: "https", Host: address}
	}
	return &url.URL{Scheme: "http", Host: address}
}

func (o MemberOptions) check() error {
	if o.Name == "" || o.Dir == "" || o.Peer == "" || o.Client == "" {
		return errors.New("name, directory, peer address and client address are all required")
	}
	if o.secure() && (o.CertFile == "" || o.KeyFile == "" || o.CAFile == "" || o.ServerName == "") {
		return errors.New("TLS needs certificate, key, CA and server name")
	}
	own := slices.IndexFunc(o.Cluster, func(p Peer) bool { return p.Name == o.Name })
	if own < 0 || o.Cluster[own].Peer != o.Peer {
		return fmt.Errorf("the cluster does not list member %s with peer address %s", o.Name, o.Peer)
	}
	for _, p := range o.Cluster {
		if p.Name == "" || strings.ContainsAny(p.Name, ",=") {
			return fmt.Errorf("invalid member name %q: it is empty or contains ',' or '='", p.Name)
		}
	}
	return nil
}

func (o MemberOptions) config(m *Member) (*embed.Config, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, o.Dir
	o.addresses(cfg)
	o.timing(cfg)
	o.bounds(cfg)
	if err := o.identity(cfg); err != nil {
		return nil, err
	}
	cfg.PreVote, cfg.StrictReconfigCheck = true, true
	cfg.Metrics, cfg.EnableGRPCGateway, cfg.EnablePprof = "basic", false, false
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainUnaryInterceptor(m.while)}
	give := gaveUp{m.fatal}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(bridge(o.Log, zap.WithFatalHook(give), zap.WithPanicHook(give)))
	return cfg, nil
}

func (o MemberOptions) addresses(cfg *embed.Config) {
	peer, client := []url.URL{*o.url(o.Peer)}, []url.URL{*o.url(o.Client)}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = client, client
	var all []string
	for _, p := range o.Cluster {
		all = append(all, p.Name+"="+o.url(p.Peer).String())
	}
	cfg.InitialCluster = strings.Join(all, ",")
	cfg.InitialClusterToken = "stillpoint"
	cfg.ClusterState = embed.ClusterStateFlagNew
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
}

func (o MemberOptions) timing(cfg *embed.Config) {
	if o.Heartbeat == 0 {
		o.Heartbeat = defaultHeartbeat
	}
	if o.Election == 0 {
		o.Election = defaultElection
	}
	cfg.TickMs = uint(o.Heartbeat.Milliseconds())
	cfg.ElectionMs = uint(o.Election.Milliseconds())
}

func (o MemberOptions) bounds(cfg *embed.Config) {
	cfg.QuotaBackendBytes = quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, compactAfter
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, catchUp
	cfg.MaxWalFiles = maxLogs
	cfg.MaxRequestBytes = 2 * maxRecord
}

// identity makes certificates be judged by CA and ServerName alone. Without
// SkipClientSANVerify etcd would look up the caller's address.
func (o MemberOptions) identity(cfg *embed.Config) error {
	if !o.secure() {
		return nil
	}
	cfg.TlsMinVersion = "TLS1.3"
	cfg.PeerTLSInfo = transport.TLSInfo{
		CertFile: o.CertFile, KeyFile: o.KeyFile, TrustedCAFile: o.CAFile, ClientCertAuth: true,
		ServerName: o.ServerName, AllowedHostnames: []string{o.ServerName}, SkipClientSANVerify: true,
	}
	cfg.ClientTLSInfo = cfg.PeerTLSInfo
	// With files that it cannot read etcd would leave its port open.
	_, err := cfg.PeerTLSInfo.ServerConfig()
	return err
}

// lockDir makes the directory, and holds it for one member.
func (o MemberOptions) lockDir() (*os.File, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, err
	}
	need := uint64(roomNew)
	if _, err := os.Stat(filepath.Join(o.Dir, "member", "wal")); err == nil {
		need = roomAgain
	}
	if err := o.checkRoom(need); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(o.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("directory in use by another process: %w", err)
	}
	return f, nil
}

func (o MemberOptions) checkRoom(need uint64) error {
	free, err := o.free(o.Dir)
	if err == nil && free < need {
		err = fmt.Errorf("%w (%w): %d MiB free in %s, a member needs %d: make room", ErrNoRoom, syscall.ENOSPC, free>>20, o.Dir, need>>20)
	}
	return err
}

func freeBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
