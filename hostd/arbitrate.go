package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

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
		if err := pki.Secret("password file", c.Arbiter.PasswordFile); err != nil {
			return o, fmt.Errorf("read arbiter.password-file: %w", err)
		}
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

// memberAdvice is what to do about a member that is down.
const memberAdvice = "Machines run on, and claims need a majority of the others. Mend what it says; " +
	"a member whose data is damaged or lost is replaced as docs/arbiter.md tells"

// keepMember runs this host's member of the embedded arbiter in a process of its
// own; nil if the host has none.
func keepMember(c config.Config, log hclog.Logger) (*arbiter.Keeper, error) {
	if !c.Member() {
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the arbiter's member: %w", err)
	}
	return arbiter.Keep(arbiter.KeeperOptions{
		Command: func() *exec.Cmd { return exec.Command(self, "member", "--config", c.File) },
		Changed: func() string { return memberFiles(c) },
		Advice:  memberAdvice, Log: log.Named("member"),
	}), nil
}

// memberFiles describes what an operator touches who mends a member.
func memberFiles(c config.Config) string {
	var all strings.Builder
	for _, path := range []string{c.File, memberDir(c), filepath.Join(memberDir(c), "member")} {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintln(&all, info.ModTime().UnixNano(), info.Size(), info.Sys().(*syscall.Stat_t).Ino)
		} else {
			fmt.Fprintln(&all, err)
		}
	}
	return all.String()
}

func memberDir(c config.Config) string { return filepath.Join(c.StateDir, "arbiter") }

func memberOptions(c config.Config, log hclog.Logger) arbiter.MemberOptions {
	e := c.Arbiter.Embedded
	o := arbiter.MemberOptions{Name: c.Host, Dir: memberDir(c), Peer: e.Peer, Client: e.Client,
		CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, CAFile: c.TLS.CA, ServerName: clusterName, Join: e.Join, Log: log}
	for _, p := range e.Cluster {
		o.Cluster = append(o.Cluster, arbiter.Peer{Name: p.Name, Peer: p.Peer})
	}
	return o
}

// liveAsMember is one life of the member, in the process that a keeper has
// started.
func liveAsMember(ctx context.Context, c config.Config, log hclog.Logger) error {
	endure(log)
	if err := dropPrivileges(daemonCapabilities); err != nil {
		return err
	}
	preferDeath()
	return arbiter.Attend(ctx, memberOptions(c, log), os.Stdin, os.Stdout)
}

// preferDeath makes the kernel end this process before the daemon and its
// machines where memory is short: the arbiter has other members.
func preferDeath() {
	const path, sooner = "/proc/self/oom_score_adj", 200
	b, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		_ = os.WriteFile(path, []byte(strconv.Itoa(min(now+sooner, 1000))), 0) // it lives as well without
	}
}
