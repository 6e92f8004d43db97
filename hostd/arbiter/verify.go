package arbiter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// markEvery is how often a member notes what it has acknowledged.
const markEvery = time.Second

// verify the records once the member is up to date, before it answers anybody,
// and note from then on what stands. Its end is the member's.
func (m *Member) verify() error {
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-m.leaving.Done():
		return nil
	}
	was, err := m.options.readMark()
	if err != nil {
		return err
	}
	now, err := m.sample()
	if err == nil {
		err = was.compare(now.Machines)
	}
	if err != nil {
		return err
	}
	close(m.verified)
	return m.note(now)
}

// note what stood a moment ago: by now it is on the disk.
func (m *Member) note(before mark) error {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	var written mark
	for {
		select {
		case <-m.leaving.Done():
			return nil
		case <-tick.C:
		}
		now, err := m.sample()
		if err != nil {
			return err
		}
		if before.Term != written.Term || before.Index != written.Index || !maps.Equal(before.Machines, written.Machines) {
			if err := m.options.writeMark(before); err != nil {
				return fmt.Errorf("note what was acknowledged: %w", err)
			}
			written = before
		}
		before = now
	}
}

// sample what stands in this member. A record that cannot be read is nobody's.
func (m *Member) sample() (mark, error) {
	s := m.etcd.Server
	now := mark{Term: s.Term(), Index: s.AppliedIndex(), Machines: map[string]stood{}}
	prefix := DefaultPrefix + "machines/"
	found, err := s.KV().Range(m.leaving, []byte(prefix), []byte(DefaultPrefix+"machines0"), mvcc.RangeOptions{})
	if err != nil {
		return now, fmt.Errorf("read the records: %w", err)
	}
	for _, kv := range found.KVs {
		machine := strings.TrimPrefix(string(kv.Key), prefix)
		if e, err := decode(kv.Value); err == nil && e.Machine == machine {
			now.Machines[machine] = stood{e.Generation, e.Claim}
		}
	}
	return now, nil
}

// checkJoin fails if the cluster knows the member that is to join as one that
// has run before: it would have forgotten its votes.
func (o MemberOptions) checkJoin(cfg *embed.Config) error {
	var config *tls.Config
	if o.secure() {
		var err error
		if config, err = cfg.PeerTLSInfo.ClientConfig(); err != nil {
			return err
		}
	}
	web := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	var failed error
	for _, p := range o.Cluster {
		if p.Name == o.Name {
			continue
		}
		known, err := o.hasRun(web, o.url(p.Peer).String())
		if known {
			return fmt.Errorf("%w: the cluster knows it as one that has run: %s", ErrDamaged, o.replacing())
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// hasRun asks another member. A member has a name once it has run.
func (o MemberOptions) hasRun(web *http.Client, other string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, other+"/members", nil)
	if err != nil {
		return false, err
	}
	answer, err := web.Do(ask)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	var members []struct {
		Name     string   `json:"name"`
		PeerURLs []string `json:"peerURLs"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&members); err != nil {
		return false, err
	}
	for _, m := range members {
		if slices.Contains(m.PeerURLs, o.url(o.Peer).String()) && m.Name != "" {
			return true, nil
		}
	}
	return false, nil
}
