package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// clusterName is in every host's certificate: any of them may be a member of
// the embedded arbiter.
const clusterName = "stillpoint"

// arbitration is the arbiter as this process reaches it.
type arbitration struct {
	daemon.Arbiter
	close func() error
}

// openArbiter reaches the arbiter that the configuration names. It does not
// wait for a quorum.
func openArbiter(c config.Config, own *pki.Identity, log hclog.Logger) (*arbitration, error) {
	if c.Arbiter.Directory != "" {
		d, err := arbiter.OpenDirectory(c.Arbiter.Directory)
		if err != nil {
			return nil, err
		}
		return &arbitration{d, d.Close}, nil
	}
	o, err := etcdOptions(c, own)
	if err != nil {
		return nil, fmt.Errorf("reach the arbiter: %w", err)
	}
	o.Log = log.Named("arbiter")
	e, err := arbiter.OpenEtcd(o)
	if err != nil {
		return nil, err
	}
	return &arbitration{e, e.Close}, nil
}

func etcdOptions(c config.Config, own *pki.Identity) (arbiter.EtcdOptions, error) {
	if e := c.Arbiter.Embedded; e != nil {
		o := arbiter.EtcdOptions{TLS: own.Client(clusterName)}
		for _, m := range e.Cluster {
			o.Endpoints = append(o.Endpoints, "https://"+m.Client)
		}
		return o, nil
	}
	o := arbiter.EtcdOptions{Endpoints: c.Arbiter.Endpoints, Username: c.Arbiter.Username}
	if c.Arbiter.PasswordFile != "" {
		b, err := os.ReadFile(c.Arbiter.PasswordFile)
		if err != nil {
			return o, err
		}
		o.Password = strings.TrimSpace(string(b))
	}
	var err error
	o.TLS, err = siteTLS(c.Arbiter.TLS, own)
	return o, err
}

// siteTLS is for a cluster that the site runs: its own files, or this host's.
func siteTLS(t config.TLS, own *pki.Identity) (*tls.Config, error) {
	if t == (config.TLS{}) {
		site := own.Client("")
		return site, nil
	}
	id, err := pki.Load(pki.Files{CA: t.CA, Cert: t.Cert, Key: t.Key}, pki.Options{})
	if err != nil {
		return nil, err
	}
	return id.Client(""), nil
}

// member keeps this host's member of the embedded arbiter running, whatever
// ends it, until it is closed.
type member struct {
	ctx   context.Context
	end   context.CancelFunc
	owned sync.WaitGroup
	log   hclog.Logger
}

const memberRetry = 2 * time.Second

// keepMember starts the member, if this host has one.
func keepMember(c config.Config, log hclog.Logger) *member {
	m := &member{log: log.Named("member")}
	m.ctx, m.end = context.WithCancel(context.Background())
	if c.Member() {
		m.owned.Go(func() { m.keep(memberOptions(c, m.log)) })
	}
	return m
}

func memberOptions(c config.Config, log hclog.Logger) arbiter.MemberOptions {
	e := c.Arbiter.Embedded
	o := arbiter.MemberOptions{Name: c.Host, Dir: filepath.Join(c.StateDir, "arbiter"), Peer: e.Peer, Client: e.Client,
		CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, CAFile: c.TLS.CA, ServerName: clusterName, Join: e.Join, Log: log}
	for _, p := range e.Cluster {
		o.Cluster = append(o.Cluster, arbiter.Peer{Name: p.Name, Peer: p.Peer})
	}
	return o
}

func (m *member) keep(o arbiter.MemberOptions) {
	for m.ctx.Err() == nil {
		if err := m.run(o); err != nil {
			m.log.Error("arbiter member ended; starting it again", "error", err, "in", memberRetry)
		}
		select {
		case <-time.After(memberRetry):
		case <-m.ctx.Done():
		}
	}
}

// run one life of the member.
func (m *member) run(o arbiter.MemberOptions) error {
	started, err := arbiter.StartMember(o)
	if err != nil {
		return err
	}
	select {
	case err = <-started.Err():
	case <-m.ctx.Done():
	}
	return errors.Join(err, started.Close())
}

func (m *member) close() {
	m.end()
	m.owned.Wait()
}
