package gate

// StartLog numbers arriving frames from 1 and keeps them for the log until
// TakeLog has had them. limit bounds what the log's far end may have to keep,
// in bytes; a synchronous log drops arriving frames beyond it.
func (g *Gate) StartLog(l Log, limit uint64) {
	g.in.Lock()
	defer g.in.Unlock()
	in := &g.in
	in.log, in.logLimit = l, limit
	in.stored, in.handed, in.last = 0, 0, 0
	in.loggedBytes, in.takenBytes, in.committedBytes, in.cutBytes = 0, 0, 0, 0
	g.renumber()
	if in.last > 0 {
		g.signalLog()
	}
}

// renumber counts the frames that wait from 1, in the order in which they arrived.
func (g *Gate) renumber() {
	for _, p := range g.ports {
		p.lane.Trim(false)
		p.lane.LogWhatWaits()
		p.passed = 0
		p.flight.Begin()
	}
	for p := g.nextForLog(); p != nil; p = g.nextForLog() {
		g.in.last++
		g.in.loggedBytes += uint64(p.lane.Renumber(g.in.last))
	}
	for _, p := range g.ports {
		p.lane.LogWhatWaits()
	}
}

// nextForLog is the port that has the oldest frame which the log has not taken, or nil.
func (g *Gate) nextForLog() (next *port) {
	var oldest uint64
	for _, p := range g.ports {
		if p.lane.Unlogged() == 0 {
			continue
		}
		if number, _ := p.lane.ToLog(); next == nil || number < oldest {
			next, oldest = p, number
		}
	}
	return next
}

// StopLog hands frames in without a log from now on, and what waited for it.
func (g *Gate) StopLog() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.log = LogOff
	if g.in.mode == open {
		g.handIn()
	}
	for _, p := range g.ports {
		g.trim(p)
	}
}

// ToLog signals that frames wait for the log. One signal may stand for many.
func (g *Gate) ToLog() <-chan struct{} { return g.toLog }

func (g *Gate) signalLog() {
	select {
	case g.toLog <- struct{}{}:
	default:
	}
}

// TakeLog gives the log the frames that it has not had, in order, until take
// refuses one. It returns the number of the first and how many there were. take
// must copy the frame and must not block or call the gate. Where there is no log
// there are none.
func (g *Gate) TakeLog(take func(Frame) bool) (first uint64, n int) {
	g.in.Lock()
	defer g.in.Unlock()
	in := &g.in
	if in.log == LogOff {
		return 0, 0
	}
	for p := g.nextForLog(); p != nil; p = g.nextForLog() {
		number, data := p.lane.ToLog()
		if n == 0 {
			first = number
		}
		if number != first+uint64(n) || !take(Frame{Port: p.index, Data: data}) {
			break // some before it were never logged, or there is no room
		}
		in.takenBytes += uint64(len(data))
		p.lane.Logged()
		n++
		g.trim(p)
	}
	g.stats.logged.Add(uint64(n))
	return first, n
}

// Arrived is the number of the last frame that has arrived for the log.
func (g *Gate) Arrived() uint64 {
	g.in.Lock()
	defer g.in.Unlock()
	return g.in.last
}

// Stored says that the log's far end holds every frame up to a number.
func (g *Gate) Stored(number uint64) {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.stored = max(g.in.stored, number)
	if g.in.mode == open {
		g.handIn()
	}
}

// LogBehind is how many bytes the log's far end must still keep.
func (g *Gate) LogBehind() uint64 {
	g.in.Lock()
	defer g.in.Unlock()
	return g.in.behind()
}

// DivertInput keeps arriving frames, and those that have not been handed in,
// for the log alone: the machine goes on elsewhere. Without a log one begins.
// Should it go on here after all, OpenInput hands in what there was room to keep.
func (g *Gate) DivertInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = diverting
	g.stopClocks()
	if g.in.log == LogOff {
		g.in.log = LogAsync
		for _, p := range g.ports {
			p.lane.LogWhatWaits()
		}
	}
	for _, p := range g.ports {
		g.trim(p)
	}
	g.signalLog()
}

// drainMost bounds DrainInput, in batches: more than an uplink's socket can hold.
const drainMost = 1 << 10

// DrainInput reads what is readable on the uplinks now. What it read waits for
// the log. It does nothing unless input is being diverted.
func (g *Gate) DrainInput() {
	for n, more := 0, true; more && n < drainMost; n++ {
		more = g.drainDiverted()
	}
}

func (g *Gate) drainDiverted() (more bool) {
	g.in.Lock()
	defer g.in.Unlock()
	if g.in.mode != diverting {
		return false
	}
	for i, p := range g.ports {
		p.uplink.Now(func(fd int) {
			some, _ := g.receiveSome(i, fd)
			more = more || some
		})
	}
	return more
}
