package pack

import "time"

// Rates are what compressing and sending have cost, the latest more than those
// before. The zero value knows nothing.
type Rates struct {
	sent, sending      float64 // bytes, seconds
	saved, compressing float64 // bytes, seconds
	withheld           int     // batches since the last that was compressed
}

const (
	// memory is how much of what is known is kept when something is learned.
	memory = 0.9
	// again is how many batches are sent as they are before one is compressed to
	// learn what that costs now.
	again = 64

	// What the standby spends on opening a batch, as a part of compressing it, and
	// on receiving bytes, as a part of sending them.
	opening   = 0.4
	receiving = 1
)

// Sent learns that sending so many bytes took so long: the sender's own work, and
// waiting for a link that is slower.
func (r Rates) Sent(bytes int, took time.Duration) Rates {
	r.sent = memory*r.sent + float64(bytes)
	r.sending = memory*r.sending + took.Seconds()
	return r
}

// Compressed learns that compressing saved so many bytes and took so long.
func (r Rates) Compressed(saved int, took time.Duration) Rates {
	r.saved = memory*r.saved + float64(saved)
	r.compressing = memory*r.compressing + took.Seconds()
	r.withheld = 0
	return r
}

// Withheld notes a batch that was not compressed.
func (r Rates) Withheld() Rates {
	r.withheld++
	return r
}

// Worth says whether the next batch is to be compressed: where that takes both
// hosts less time than the bytes that it saves, where nothing is known, and now and
// then to learn.
func (r Rates) Worth() bool {
	if r.sent == 0 || r.compressing == 0 || r.withheld >= again {
		return true
	}
	return (1+opening)*r.compressing <= (1+receiving)*r.saved*r.sending/r.sent
}
