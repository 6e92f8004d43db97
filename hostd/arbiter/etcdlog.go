package arbiter

import (
	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge gives etcd's messages to an hclog.Logger; nil: to nobody. etcd warns
// of much that mends itself, so its warnings are for who debugs, and its errors are warnings.
func bridge(log hclog.Logger, options ...zap.Option) *zap.Logger {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return zap.New(core{log}, options...)
}

// core is zap's back end on an hclog.Logger.
type core struct{ log hclog.Logger }

func levelOf(l zapcore.Level) hclog.Level {
	switch {
	case l <= zapcore.InfoLevel:
		return hclog.Trace
	case l == zapcore.WarnLevel:
		return hclog.Debug
	case l == zapcore.ErrorLevel:
		return hclog.Warn
	}
	return hclog.Error
}

func (c core) Enabled(l zapcore.Level) bool { return c.log.GetLevel() <= levelOf(l) }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(pairs(fields)...)}
}

func (c core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// endOfServing is what a member says of each of its listeners that is closed, also when
// it ends as it should; that it ended is told by who runs it.
const endOfServing = "setting up serving from embedded etcd failed."

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := levelOf(e.Level)
	if e.Message == endOfServing {
		level = hclog.Debug
	}
	c.log.Log(level, e.Message, pairs(fields)...)
	return nil
}

func (c core) Sync() error { return nil }

// pairs flattens zap's fields into hclog's keys and values.
func pairs(fields []zapcore.Field) []any {
	var all []any
	for _, f := range fields {
		one := zapcore.NewMapObjectEncoder()
		f.AddTo(one)
		for k, v := range one.Fields {
			all = append(all, k, v)
		}
	}
	return all
}
