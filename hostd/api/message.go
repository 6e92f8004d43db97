package api

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

func machineOr(v status.View, err error) (*control.Machine, error) {
	if err != nil {
		return nil, err
	}
	return machine(v), nil
}

func machines(all []status.View) (list []*control.Machine) {
	for _, v := range all {
		list = append(list, machine(v))
	}
	return list
}

func machine(v status.View) *control.Machine {
	return &control.Machine{
		Name: v.Name, Role: string(v.Role), Peer: v.Peer, Generation: v.Generation,
		QemuPid: int64(v.PID), Accel: v.Accel, QemuVersion: v.QEMUVersion, Agent: v.Agent,
		CheckpointPolicy: v.CheckpointPolicy, OutputPolicy: v.OutputPolicy, Quiescence: v.Quiescence,
		Epoch: v.Epoch, Checkpoints: v.Checkpoints,
		PauseUs: quantiles(v.PauseTime), QuiesceUs: quantiles(v.QuiesceTime), CommitUs: quantiles(v.CommitTime),
		DirtyPages: v.DirtyPages, DirtyBytes: v.DirtyBytes, BytesShipped: v.BytesShipped,
		Output: &control.Output{HeldFrames: v.Output.HeldFrames, HeldBytes: v.Output.HeldBytes,
			Released: v.Output.Released, Dropped: v.Output.Dropped, Resent: v.Output.Resent},
		Input: &control.Input{Held: v.Input.Held, Delivered: v.Input.Delivered, Dropped: v.Input.Dropped, Late: v.Input.Late,
			Logged: v.Input.Logged, Unlogged: v.Input.Unlogged, Replayed: v.Replayed},
		Warnings: v.Warnings, UptimeSeconds: uint64(v.Uptime.Seconds()), ReplicaEpoch: v.ReplicaEpoch,
		Console: v.Console, InputLog: v.InputLog, WantedStandby: v.WantedStandby, Scrubs: scrubs(v.Scrubs),
	}
}

func quantiles(q status.Quantiles) *control.Quantiles {
	return &control.Quantiles{P50: micros(q.P50), P95: micros(q.P95), Max: micros(q.Max)}
}

func scrubs(s status.Scrubs) *control.Scrubs {
	if s.Runs == 0 {
		return nil
	}
	return &control.Scrubs{Runs: s.Runs, Pages: s.Pages, WrongPages: s.WrongPages, LastUnixNanos: s.Last.UnixNano()}
}

func event(host string, e *status.Event) *control.Event {
	return &control.Event{TimeUnixNanos: e.Time.UnixNano(), Host: host, Machine: e.Machine, Kind: string(e.Kind), Message: e.Message,
		Role: string(e.Role), Epoch: e.Epoch, Generation: e.Generation, Checkpoint: checkpoint(e.Checkpoint)}
}

func checkpoint(c *status.Checkpoint) *control.Checkpoint {
	if c == nil {
		return nil
	}
	return &control.Checkpoint{
		Epoch: c.Epoch, StartedUnixNanos: c.Started.UnixNano(),
		QuiesceUs: micros(c.Quiesce), StopUs: micros(c.Stop), CopyUs: micros(c.Copy), PauseUs: micros(c.Pause),
		TotalUs: micros(c.Total), CommitUs: micros(c.Commit),
		Pages: c.Pages, ZeroPages: c.ZeroPages, Bytes: c.Bytes, DeviceBytes: c.DeviceBytes,
		Quiesced: c.Quiesced, Forced: c.Forced, OutputFrames: c.OutputFrames, WireBytes: c.WireBytes,
	}
}

func micros(d time.Duration) uint64 { return uint64(max(d, 0).Microseconds()) }
