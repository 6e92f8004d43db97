package arbiter

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// DefaultPrefix begins every key of an Etcd that is given no other prefix.
const DefaultPrefix = "/stillpoint/v1/"

const (
	// attemptLimit bounds one request. A member that hangs costs this long;
	// then the next one is asked. It is above the time of an fsync on a slow
	// disk, and below the time of an election.
	attemptLimit = 700 * time.Millisecond
	// pause between attempts.
	pause = 50 * time.Millisecond
)

// EtcdOptions say how a cluster is reached.
type EtcdOptions struct {
	// Endpoints of the members' client ports, host:port or URL: all http or
	// all https. Without a scheme TLS decides.
	Endpoints []string
	// TLS of the connections; nil: plain, or the system's roots for https.
	// Where certificates do not carry the endpoints' addresses, set its
	// ServerName. It is not changed.
	TLS *tls.Config
	// Username and Password of etcd's own authentication; empty: none.
	Username, Password string
	// Prefix of all keys, "" for DefaultPrefix. Clusters of hosts that share
	// one etcd need different ones.
	Prefix string
	// Log gets the client's messages at debug; nil: none.
	Log hclog.Logger
}

// Etcd is an arbiter in an etcd cluster: PREFIXmachines/<machine> holds the
// record that stands, in the form that Directory keeps in its files. A claim is
// one transaction on that key: put, if the key was not written since its record
// was read. No lease and no clock is involved.
//
// Methods may be called concurrently. They return by the end of their context,
// which should have one. While the cluster has no quorum they ask again until
// then.
type Etcd struct {
	client    *clientv3.Client
	endpoints string
	prefix    string

	mu sync.Mutex
	// unanswered are claims, by their token, of which the claimant has not
	// been told how they ended.
	unanswered map[string]Record
}

// OpenEtcd checks the options. It does not reach for the cluster.
func OpenEtcd(o EtcdOptions) (*Etcd, error) {
	endpoints, err := o.urls()
	if err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	options := append(connectOptions(), grpc.WithChainUnaryInterceptor(keepReason))
	if o.TLS != nil && o.TLS.ServerName != "" {
		options = append(options, grpc.WithTransportCredentials(named{credentials.NewTLS(o.TLS.Clone()), o.TLS.ServerName}))
	}
	if o.Username != "" {
		l := &login{username: o.Username, password: o.Password}
		options = append(options, grpc.WithChainUnaryInterceptor(l.intercept))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: o.tlsFor(endpoints[0]), DialOptions: options, Logger: bridge(o.Log),
		// The server's answers are a record and a few numbers.
		MaxCallSendMsgSize: 2 * maxRecord, MaxCallRecvMsgSize: 4 * maxRecord,
	})
	if err != nil {
		return nil, fmt.Errorf("make etcd client for %s: %w", strings.Join(endpoints, ", "), err)
	}
	return &Etcd{
		client: client, endpoints: strings.Join(endpoints, ", "), prefix: o.Prefix, unanswered: make(map[string]Record),
	}, nil
}

// urls gives every endpoint its scheme.
func (o EtcdOptions) urls() ([]string, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("open etcd arbiter: no endpoints")
	}
	scheme, urls := "", make([]string, 0, len(o.Endpoints))
	for _, endpoint := range o.Endpoints {
		u, err := o.url(endpoint)
		switch {
		case err != nil:
			return nil, fmt.Errorf("open etcd arbiter: endpoint %q: %w", endpoint, err)
		case scheme != "" && u.Scheme != scheme:
			return nil, fmt.Errorf("open etcd arbiter: endpoint %q does not use %s like the ones before it: use one scheme for all", endpoint, scheme)
		}
		scheme = u.Scheme
		urls = append(urls, u.String())
	}
	return urls, nil
}

func (o EtcdOptions) url(endpoint string) (*url.URL, error) {
	if !strings.Contains(endpoint, "://") {
		scheme := "http"
		if o.TLS != nil {
			scheme = "https"
		}
		endpoint = scheme + "://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("not http or https")
	case u.Scheme == "http" && o.TLS != nil:
		return nil, errors.New("TLS is configured, but the endpoint is http")
	case u.Hostname() == "" || u.Port() == "":
		return nil, errors.New("want host:port or http(s)://host:port")
	case strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("give host and port only")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func (o EtcdOptions) tlsFor(endpoint string) *tls.Config {
	if o.TLS != nil {
		return o.TLS.Clone()
	}
	if strings.HasPrefix(endpoint, "https:") {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return nil
}

// Close ends the connections. Calls that are under way fail.
func (a *Etcd) Close() error { return a.client.Close() }

// Current returns the record that stands; one of generation 0 if there is
// none. The read is linearizable: a quorum confirmed it after the call began.
// It fails with ErrName, ErrCorrupt, the context's error or the cluster's.
func (a *Etcd) Current(ctx context.Context, machine string) (Record, error) {
	if err := checkMachine(machine); err != nil {
		return Record{}, err
	}
	s, err := a.read(ctx, machine)
	if err != nil {
		return Record{}, fmt.Errorf("read arbiter's record of machine %s: %w", machine, err)
	}
	return s.Record, nil
}

// TestAndSet makes next the record that stands if the generation expect
// stands now (0: none). next.Generation is expect+1, or 0 for the same. It
// returns the record granted, once a quorum has it on stable storage.
//
// It fails with a *LostError if another record stands; nothing was granted
// then. With ErrOutcomeUnknown the claim may have won, or may win yet: ask
// again with the same claim on the same Etcd, or read Current. Any other
// error: nothing was granted.
func (a *Etcd) TestAndSet(ctx context.Context, expect uint64, next Record) (Record, error) {
	next, err := next.completed(expect)
	if err != nil {
		return Record{}, err
	}
	claim := entry{Record: next, Claim: rand.Text()}
	granted, err := a.claim(ctx, expect, claim)
	var lost *LostError
	switch {
	case err == nil:
		return granted, nil
	case errors.As(err, &lost):
		return Record{}, err
	case a.mayHaveWon(next):
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return Record{}, fmt.Errorf("claim generation %d of machine %s: %w", next.Generation, next.Machine, err)
}

// claim repeats a claim until it is answered. That is safe: all attempts carry
// one token, and each can win only against the revision that it read.
func (a *Etcd) claim(ctx context.Context, expect uint64, next entry) (Record, error) {
	for {
		s, err := a.read(ctx, next.Machine)
		if err != nil {
			return Record{}, err
		}
		if s.Generation != expect {
			return a.settled(s.entry, expect, next)
		}
		s, err = a.put(ctx, s.revision, next)
		switch {
		case err == nil && s.Generation != expect:
			return a.settled(s.entry, expect, next)
		case err == nil:
			err = errors.New("the same record was written again by another client")
		case errors.Is(err, ErrCorrupt) || isRefusal(err):
			return Record{}, err
		}
		if err := a.again(ctx, err); err != nil {
			return Record{}, err
		}
	}
}

// settled tells what the record that stands means for a claim: it is the
// claim, or an equal one whose claimant was never told, or the winner.
func (a *Etcd) settled(stands entry, expect uint64, next entry) (Record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, own := a.unanswered[stands.Claim]
	// What does not stand now will not stand again: its generation is taken.
	for token, r := range a.unanswered {
		if r.Machine == stands.Machine && r.Generation <= stands.Generation && token != stands.Claim {
			delete(a.unanswered, token)
		}
	}
	if stands.Claim == next.Claim || own && stands.sameClaim(next.Record) {
		delete(a.unanswered, stands.Claim)
		return stands.Record, nil
	}
	return Record{}, &LostError{Expect: expect, Winner: stands.Record}
}

// mayHaveWon tells whether this claim, or an equal one before it, was sent and
// not answered.
func (a *Etcd) mayHaveWon(claim Record) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.unanswered {
		if r.sameClaim(claim) {
			return true
		}
	}
	return false
}

func (a *Etcd) key(machine string) string { return a.prefix + "machines/" + machine }

// stored is a record with the revision of etcd that wrote its key; 0: no key.
type stored struct {
	entry
	revision int64
}

func (a *Etcd) read(ctx context.Context, machine string) (stored, error) {
	for {
		var found *clientv3.GetResponse
		err := a.attempt(ctx, func(ctx context.Context) (err error) {
			found, err = a.client.Get(ctx, a.key(machine))
			return err
		})
		if err == nil {
			return a.decode(machine, found)
		}
		if isRefusal(err) {
			return stored{}, err
		}
		if err := a.again(ctx, err); err != nil {
			return stored{}, err
		}
	}
}

func (a *Etcd) decode(machine string, found *clientv3.GetResponse) (stored, error) {
	if len(found.Kvs) == 0 {
		return stored{entry: entry{Record: Record{Machine: machine}}}, nil
	}
	kv := found.Kvs[0]
	e, err := decode(kv.Value)
	if err == nil && (e.Machine != machine || e.Generation == 0) {
		err = fmt.Errorf("it is of machine %q, generation %d", e.Machine, e.Generation)
	}
	if err != nil {
		return stored{}, fmt.Errorf("%w in etcd, key %s, revision %d: %w", ErrCorrupt, kv.Key, kv.ModRevision, err)
	}
	return stored{e, kv.ModRevision}, nil
}

// put writes the entry if the key's revision still is the one given, and
// returns what stands then. After an error that is no refusal it may have been
// written, or may be yet.
func (a *Etcd) put(ctx context.Context, revision int64, next entry) (stored, error) {
	value, err := encode(next)
	if err != nil {
		return stored{}, err
	}
	key := a.key(next.Machine)
	txn := func(ctx context.Context) (answer *clientv3.TxnResponse, err error) {
		return answer, a.attempt(ctx, func(ctx context.Context) (err error) {
			answer, err = a.client.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
				Then(clientv3.OpPut(key, string(value))).
				Else(clientv3.OpGet(key)).Commit()
			return err
		})
	}
	first := a.expectAnswer(next)
	answer, err := txn(ctx)
	switch {
	case err != nil && first && isRefusal(err):
		a.forget(next)
		return stored{}, err
	case err != nil:
		return stored{}, err
	case answer.Succeeded:
		return stored{next, answer.Header.Revision}, nil
	}
	stands, err := a.decode(next.Machine, (*clientv3.GetResponse)(answer.Responses[0].GetResponseRange()))
	if err != nil && first {
		a.forget(next)
	}
	return stands, err
}

// expectAnswer remembers a claim before it is sent. It tells whether this is
// the first time.
func (a *Etcd) expectAnswer(e entry) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.unanswered[e.Claim]
	a.unanswered[e.Claim] = e.Record
	return !known
}

func (a *Etcd) forget(e entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.unanswered, e.Claim)
}

// attempt bounds one request and finds the reason of its failure.
func (a *Etcd) attempt(ctx context.Context, request func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	t := try{whole: ctx}
	err := request(context.WithValue(bounded, tryKey{}, &t))
	if err == nil || t.err == nil {
		return err
	}
	return rpctypes.Error(t.err)
}

// again waits before the next attempt. It fails with what the last one said
// when there is no time for another.
func (a *Etcd) again(ctx context.Context, last error) error {
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-a.client.Ctx().Done():
		return fmt.Errorf("etcd arbiter is closed: %w", last)
	case <-ctx.Done():
		return fmt.Errorf("no answer from etcd at %s (a majority of its members must run and reach each other): %w: %w",
			a.endpoints, ctx.Err(), last)
	}
}

// isRefusal tells whether a member said that it will not do what was asked;
// asking another does not help. ErrNoSpace comes before anything is written.
func isRefusal(err error) bool {
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return true
	}
	var e rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &e) {
		code = e.Code()
	}
	switch code {
	case codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.Unimplemented:
		return true
	}
	return false
}
