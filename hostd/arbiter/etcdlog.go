package arbiter

import (
	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge gives etcd's messages to an hclog.Logger; nil: to nobody. etcd warns
// of much that mends itself, so each level but the worst goes one down.
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
	case l <= zapcore.DebugLevel:
		return hclog.Trace
	case l == zapcore.InfoLevel:
		return hclog.Debug
	case l == zapcore.WarnLevel:
		return hclog.Info
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

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(levelOf(e.Level), e.Message, pairs(fields)...)
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
