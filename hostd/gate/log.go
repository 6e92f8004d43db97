package gate

// StartLog numbers arriving frames from 1 and keeps them for the log until
// TakeLog has had them. limit bounds what the log's far end may have to keep,
// in bytes; a synchronous log drops arriving frames beyond it.
func (g *Gate) StartLog(l Log, limit uint64) {
	g.in.Lock()
	defer g.in.Unlock()
	in := &g.in
	in.queue.renumber()
	in.log, in.logLimit = l, limit
	in.handed, in.taken, in.stored = 0, 0, 0
	in.takenBytes, in.committedBytes, in.cutBytes = 0, 0, 0
	if in.queue.len() > 0 {
		g.signalLog()
	}
}

// StopLog hands frames in without a log from now on, and what waited for it.
func (g *Gate) StopLog() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.log = LogOff
	g.handIn()
	g.in.trim()
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
	for in.log != LogOff && in.taken < in.queue.last() {
		f := in.queue.at(in.taken + 1)
		if !take(f) {
			break
		}
		in.taken++
		in.takenBytes += uint64(len(f.Data))
		n++
	}
	first = in.taken - uint64(n) + 1
	in.trim()
	g.stats.logged.Add(uint64(n))
	return first, n
}

// Stored says that the log's far end holds every frame up to a number.
func (g *Gate) Stored(number uint64) {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.stored = max(g.in.stored, number)
	g.handIn()
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
	in := &g.in
	in.mode = diverting
	if in.log == LogOff {
		in.log = LogAsync
		in.taken = in.handed
	}
	in.trim()
	g.signalLog()
}

// DrainInput reads what is readable on the uplinks now. What it read waits for
// the log. It does nothing unless input is being diverted.
func (g *Gate) DrainInput() {
	g.in.Lock()
	defer g.in.Unlock()
	if g.in.mode != diverting {
		return
	}
	for i, p := range g.ports {
		p.uplink.Now(func(fd int) { _ = g.drainUplinkLocked(i, fd) })
	}
}
