package qmp

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestVerbsOnTheWire(t *testing.T) {
	c, s := connect(t)
	ctx := limited(t)
	for _, test := range []struct {
		command, arguments, reply string
		verb                      func() (any, error)
		want                      any
	}{
		{"query-version", "", `{"return":{"qemu":{"micro":13,"minor":0,"major":10},"package":"Debian 1:10"}}`,
			func() (any, error) { v, err := c.QueryVersion(ctx); return v.String() + " " + v.Package, err }, "10.0.13 Debian 1:10"},
		{"query-status", "", `{"return":{"status":"running","running":true}}`,
			func() (any, error) { return c.QueryStatus(ctx) }, StatusInfo{StateRunning, true}},
		{"query-migrate", "", `{"return":{}}`,
			func() (any, error) { return c.QueryMigrate(ctx) }, MigrationInfo{Status: MigrationNone}},
		{"query-migrate", "", `{"return":{"status":"colo","total-time":400,"ram":{"total":268435456,"duplicate":3}}}`,
			func() (any, error) { return c.QueryMigrate(ctx) },
			MigrationInfo{Status: MigrationCOLO, TotalTime: 400, RAM: &MigrationRAM{Total: 256 << 20, Duplicate: 3}}},
		{"query-migrate", "", `{"return":{"status":"failed","error-desc":"no route"}}`,
			func() (any, error) { return c.QueryMigrate(ctx) }, MigrationInfo{Status: MigrationFailed, ErrorDesc: "no route"}},
		{"migrate-set-capabilities", `{"capabilities":[{"capability":"events","state":true},{"capability":"x-colo","state":false}]}`, done,
			func() (any, error) {
				return nil, c.SetCapabilities(ctx, map[string]bool{"x-colo": false, "events": true})
			}, nil},
		{"query-migrate-capabilities", "", `{"return":[{"capability":"x-colo","state":true}]}`,
			func() (any, error) { return c.QueryCapabilities(ctx) }, map[string]bool{"x-colo": true}},
		{"migrate-set-parameters", `{"x-checkpoint-delay":3,"max-bandwidth":107374182400,"downtime-limit":2000}`, done,
			func() (any, error) {
				return nil, c.SetParameters(ctx, MigrationParameters{Millis(2500 * time.Microsecond), Bytes(100 << 30), Millis(2 * time.Second)})
			}, nil},
		{"migrate-set-parameters", `{"x-checkpoint-delay":0}`, done,
			func() (any, error) { return nil, c.SetParameters(ctx, MigrationParameters{CheckpointDelay: Millis(0)}) }, nil},
		{"migrate", `{"uri":"unix:/x"}`, done, func() (any, error) { return nil, c.Migrate(ctx, "unix:/x") }, nil},
		{"migrate-incoming", `{"uri":"unix:/y"}`, done, func() (any, error) { return nil, c.MigrateIncoming(ctx, "unix:/y") }, nil},
		{"x-colo-lost-heartbeat", "", done, func() (any, error) { return nil, c.COLOLostHeartbeat(ctx) }, nil},
		{"qom-get", `{"path":"/machine/peripheral/nic0","property":"csum"}`, `{"return":true}`,
			func() (any, error) {
				var on bool
				err := c.QOMGet(ctx, "/machine/peripheral/nic0", "csum", &on)
				return on, err
			}, true},
		{"qom-get", `{"path":"/machine","property":"type"}`, `{"return":"pc-i440fx-10.0-machine"}`,
			func() (any, error) { return c.MachineType(ctx) }, "pc-i440fx-10.0"},
		{"stop", "", done, func() (any, error) { return nil, c.Stop(ctx) }, nil},
		{"cont", "", done, func() (any, error) { return nil, c.Cont(ctx) }, nil},
		{"system_powerdown", "", done, func() (any, error) { return nil, c.SystemPowerdown(ctx) }, nil},
		{"quit", "", done, func() (any, error) { return nil, c.Quit(ctx) }, nil},
		{"query-chardev", "", `{"return":[{"frontend-open":true,"label":"agent","filename":"unix:/a"}]}`,
			func() (any, error) { return c.QueryChardev(ctx) }, []Chardev{{"agent", "unix:/a", true}}},
		{"query-cpus-fast", "", `{"return":[{"cpu-index":0,"thread-id":77,"qom-path":"/machine"}]}`,
			func() (any, error) { return c.QueryCPUs(ctx) }, []CPU{{0, 77, "/machine"}}},
		{"query-block", "", `{"return":[{"device":"","qdev":"/machine/peripheral-anon/device[0]/virtio-backend","locked":false,"inserted":{"ro":false,"file":"/a","drv":"raw"}},` +
			`{"device":"virtio1","qdev":"d","inserted":{"ro":true,"file":"/b"}},{"device":"","qdev":"cd","removable":true},` +
			`{"device":"pflash1","inserted":{"ro":false,"file":"/c"}},{"device":"","qdev":"/machine/system.flash1","inserted":{"ro":false,"file":"/d"}}]}`,
			func() (any, error) {
				all, err := c.QueryBlock(ctx)
				var writable []bool
				for _, b := range all {
					writable = append(writable, b.Writable())
				}
				return writable, err
			}, []bool{true, false, false, false, false}},
		{"query-yank", "", `{"return":[{"type":"block-node","node-name":"m"},{"type":"migration"}]}`,
			func() (any, error) { return c.QueryYank(ctx) }, []YankInstance{YankBlockNode("m"), YankMigration()}},
		{"yank", `{"instances":[{"type":"block-node","node-name":"m"},{"type":"chardev","id":"c"}]}`, done,
			func() (any, error) { return nil, c.Yank(ctx, YankBlockNode("m"), YankChardev("c")) }, nil},
		{"yank", `{"instances":[]}`, done, func() (any, error) { return nil, c.Yank(ctx) }, nil},
	} {
		t.Run(test.command, func(t *testing.T) {
			wait := s.background(func() {
				h := s.hear()
				if h.Execute != test.command || string(h.Arguments) != test.arguments {
					t.Errorf("heard %s %s, want %s %s", h.Execute, h.Arguments, test.command, test.arguments)
				}
				s.answer(h, test.reply)
			})
			got, err := test.verb()
			wait()
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestRefusalSaysWhatAndWhere(t *testing.T) {
	c, s := connect(t)
	wait := s.background(func() {
		s.answer(s.hear(), `{"error":{"class":"CommandNotFound","desc":"The command x-colo-lost-heartbeat has not been found"}}`)
	})
	err := c.COLOLostHeartbeat(limited(t))
	wait()
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Class != ClassCommandNotFound {
		t.Fatalf("%v", err)
	}
	var failed *CommandError
	if !errors.As(err, &failed) || failed.Command != "x-colo-lost-heartbeat" || failed.Monitor != s.path {
		t.Fatalf("%v", err)
	}
	want := fmt.Sprintf("QMP command x-colo-lost-heartbeat on %s: The command x-colo-lost-heartbeat has not been found (CommandNotFound)", s.path)
	if err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestAReplyOfAnotherShapeIsAnError(t *testing.T) {
	c, s := connect(t)
	wait := s.background(func() { s.answer(s.hear(), `{"return":[1,2]}`) })
	_, err := c.QueryStatus(limited(t))
	wait()
	if err == nil {
		t.Error("no error")
	}
}

func TestYankGoesPastAHangingCommand(t *testing.T) {
	s := newServer(t)
	var enabled heard
	wait := s.background(func() {
		s.accept()
		s.say(greeting)
		enabled = s.hear()
		s.answer(enabled, done)
	})
	c, err := DialOutOfBand(limited(t), s.path, nil)
	wait()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if string(enabled.Arguments) != `{"enable":["oob"]}` {
		t.Errorf("negotiated %s", enabled.Arguments)
	}
	ctx, cancel := context.WithCancel(limited(t))
	hanging := s.background(func() {
		if err := c.Stop(ctx); !errors.Is(err, ErrOutcomeUnknown) {
			t.Error(err)
		}
	})
	stop := s.hear()
	wait = s.background(func() {
		h := s.hear()
		if h.ExecOOB != "yank" || h.Execute != "" {
			t.Errorf("heard %+v", h)
		}
		s.answer(h, done)
	})
	if err := c.Yank(limited(t), YankBlockNode("mirror")); err != nil {
		t.Error(err)
	}
	wait()
	cancel()
	hanging()
	s.answer(stop, done)
}

func TestOutOfBandMustBeOffered(t *testing.T) {
	s := newServer(t)
	wait := s.background(func() {
		s.accept()
		s.say(`{"QMP":{"version":{},"capabilities":[]}}`)
	})
	c, err := DialOutOfBand(limited(t), s.path, nil)
	wait()
	if err == nil {
		c.Close()
		t.Fatal("connected")
	}
}
