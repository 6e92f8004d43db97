package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// memberCall bounds one question to the arbiter's members, memberTick is between two.
const (
	memberCall = 10 * time.Second
	memberTick = 100 * time.Millisecond
)

// Member finds the process of the host's member of the arbiter. It fails with
// os.ErrProcessDone when there is none.
func (n *Node) Member() (Process, error) {
	return n.find("the arbiter's member", func(args []string) bool { return len(args) > 1 && args[1] == "member" })
}

// KillMember ends it with SIGKILL. It returns when it is gone, and the time just
// before the signal.
func (n *Node) KillMember() (time.Time, error) { return killFound(n.Member()) }

func (n *Node) memberDir() string { return filepath.Join(n.StateDir, "arbiter") }

// EmptyMember removes the database of the node's member of the arbiter while that is
// down. The daemon, if it lives, starts the member again. Returned is where what the
// log says since begins, for ReplaceMember.
func (n *Node) EmptyMember() (since int64, err error) {
	if info, err := os.Stat(n.LogFile()); err == nil {
		since = info.Size()
	}
	for range 10 { // it may be started again just now
		if _, err := n.KillMember(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return since, err
		}
		err = os.RemoveAll(n.memberDir())
		if _, runs := n.Member(); err == nil && errors.Is(runs, os.ErrProcessDone) {
			return since, nil
		}
	}
	return since, fmt.Errorf("empty the arbiter's member on host %s: it is started again and again: %w", n.Name, err)
}

// ReplaceMember does what docs/arbiter.md wants of an operator whose member has lost
// its data, while the daemon and the other members run. It fails if that member does
// not say first that it takes no part without its data.
func (h *Host) ReplaceMember(ctx context.Context, since int64) error {
	return h.replaceMember(ctx, since, h.Config.Arbiter.Embedded, func() error {
		return writeConfig(h.configFile(), h.Name, h.Config)
	})
}

// ReplaceMember is as that of a Host.
func (w *Witness) ReplaceMember(ctx context.Context, since int64) error {
	return w.replaceMember(ctx, since, w.Config.Arbiter.Embedded, func() error {
		return writeConfig(w.configFile(), w.Name, w.Config)
	})
}

func (n *Node) replaceMember(ctx context.Context, since int64, e *Embedded, write func() error) error {
	err := n.awaitLog(ctx, since, arbiter.ErrDamaged.Error())
	if err == nil {
		err = n.joinAgain(ctx, e, write)
	}
	if err != nil {
		return n.explain(fmt.Errorf("replace the arbiter's member on host %s: %w", n.Name, err))
	}
	return nil
}

// awaitLog waits until the daemon's log says something.
func (n *Node) awaitLog(ctx context.Context, since int64, text string) error {
	f, err := os.Open(n.LogFile())
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(since, io.SeekStart); err != nil {
		return err
	}
	var said []byte
	return until(ctx, func() error {
		more, err := io.ReadAll(f)
		if said = append(said, more...); err != nil || bytes.Contains(said, []byte(text)) {
			return err
		}
		return fmt.Errorf("its log does not say %q", text)
	})
}

func (n *Node) joinAgain(ctx context.Context, e *Embedded, write func() error) error {
	var others []string
	for _, m := range e.Cluster {
		if m.Name != n.Name {
			others = append(others, "https://"+m.Client)
		}
	}
	client, err := n.askMembers(others)
	if err != nil {
		return err
	}
	defer client.Close()
	peer := "https://" + e.Peer
	if err := listed(ctx, client, peer, false, func(ctx context.Context, id uint64) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	}); err != nil {
		return err
	}
	if err := listed(ctx, client, peer, true, func(ctx context.Context, _ uint64) error {
		_, err := client.MemberAdd(ctx, []string{peer})
		return err
	}); err != nil {
		return err
	}
	if err := os.RemoveAll(n.memberDir()); err != nil {
		return err
	}
	e.Join = true
	err = errors.Join(write(), n.answersAlone(ctx, e))
	e.Join = false
	return errors.Join(err, write())
}

// listed makes a change that is refused while the members are not well connected, and
// whose answer may be lost: the list tells whether it is done.
func listed(ctx context.Context, client *clientv3.Client, peer string, want bool, change func(context.Context, uint64) error) error {
	return until(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, memberCall)
		defer cancel()
		all, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all.Members, func(m *etcdserverpb.Member) bool { return slices.Contains(m.PeerURLs, peer) })
		if (i >= 0) == want {
			return nil
		}
		id := uint64(0)
		if i >= 0 {
			id = all.Members[i].ID
		}
		return errors.Join(change(ctx, id), errors.New("the list is not as wanted yet"))
	})
}

// answersAlone waits until this node's member itself answers.
func (n *Node) answersAlone(ctx context.Context, e *Embedded) error {
	own, err := n.askMembers([]string{"https://" + e.Client})
	if err != nil {
		return err
	}
	defer own.Close()
	return until(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, memberCall)
		defer cancel()
		_, err := own.Get(ctx, "any")
		return err
	})
}

// askMembers from within the node's namespace, by its certificate.
func (n *Node) askMembers(endpoints []string) (*clientv3.Client, error) {
	files := n.lab.tlsOf(n.Name)
	if files == nil {
		return nil, errors.New("the lab has no certificates")
	}
	id, err := pki.Load(pki.Files{CA: files.CA, Cert: files.Cert, Key: files.Key}, pki.Options{})
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, address string) (conn net.Conn, err error) {
		err = n.Space.Do(func() error {
			conn, err = (&net.Dialer{Timeout: memberCall}).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}
	return clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: id.Client("stillpoint"), Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)}})
}

// until what is asked succeeds, or the context ends: then it says why not.
func until(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(memberTick)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
