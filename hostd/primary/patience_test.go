package primary

import "testing"

func TestPatience(t *testing.T) {
	const looks = 10
	for name, c := range map[string]struct {
		see  func(n uint64) look
		ends int // the look at which it does; 0 for never
	}{
		"waits in vain":                {func(uint64) look { return look{waited: true} }, looks},
		"gets on":                      {func(n uint64) look { return look{waited: true, progress: n} }, 0},
		"gets on now and then":         {func(n uint64) look { return look{waited: true, progress: n / (looks - 1)} }, 0},
		"gets on once":                 {func(n uint64) look { return look{waited: true, progress: min(n, 3)} }, looks + 3},
		"is not waited for":            {func(uint64) look { return look{} }, 0},
		"holds its guest, but gets on": {func(n uint64) look { return look{waited: true, progress: n, stopped: true} }, looks},
		"holds its guest for others":   {func(uint64) look { return look{stopped: true} }, looks},
		"holds its guest for a while":  {func(n uint64) look { return look{progress: n, stopped: n%looks != 0} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := &patience{looks: looks}
			ended := 0
			for n := 1; n <= 10*looks && ended == 0; n++ {
				if p.ended(c.see(uint64(n))) {
					ended = n
				}
			}
			if ended != c.ends {
				t.Errorf("ended at look %d, want %d", ended, c.ends)
			}
		})
	}
}
