package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// TestACallWaitsForAnother at the same machine, until it ends or for so long. Calls at
// other machines do not.
func TestACallWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Config: config.Default(), Log: hclog.NewNullLogger()})
		defer d.end()
		first, err := d.reserveFor(t.Context(), "m")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = d.reserveSoon(t.Context(), "m")
		if !errors.As(err, new(reservedError)) || !strings.Contains(err.Error(), "another call, which has not ended for 20s; nothing was changed") {
			t.Error(err)
		}
		if waited := time.Since(began); waited != reserveLimit {
			t.Errorf("waited %v", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.reserveSoon(ctx, "m"); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, new(reservedError)) {
			t.Error(err)
		}
		other, err := d.reserveFor(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		other()
		time.AfterFunc(time.Second, first)
		began = time.Now()
		second, err := d.reserveFor(t.Context(), "m")
		if err != nil || time.Since(began) != time.Second {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		second()
	})
}

// TestOnlyAnOperatorInterrupts what adopts a machine of an earlier daemon: a peer that
// asks again and again must not keep it from its end.
func TestOnlyAnOperatorInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Config: config.Default(), Log: hclog.NewNullLogger()})
		defer d.end()
		g := d.newLeft(leftover{spec: spec.Machine{Name: "m"}})
		d.add(g)
		release, err := d.reserve("m")
		if err != nil {
			t.Fatal(err)
		}
		try, cancel := context.WithCancel(t.Context())
		g.earlier.trying(cancel)
		context.AfterFunc(try, release)
		if _, err := d.reserveSoon(t.Context(), "m"); !errors.As(err, new(reservedError)) || try.Err() != nil {
			t.Errorf("%v; the try: %v", err, try.Err())
		}
		free, err := d.reserveFor(t.Context(), "m")
		if err != nil || try.Err() == nil {
			t.Fatalf("%v; the try: %v", err, try.Err())
		}
		free()
	})
}
