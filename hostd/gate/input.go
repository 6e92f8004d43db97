package gate

func (g *Gate) drainUplink(i, fd int) error {
	g.in.Lock()
	defer g.in.Unlock()
	return g.drainUplinkLocked(i, fd)
}

func (g *Gate) drainUplinkLocked(i, fd int) error {
	p := g.ports[i]
	for {
		n, again, err := p.uplink.receive(fd, p.fromUplink)
		if again || err != nil {
			return err
		}
		if n >= vnetHeader+ethernetHead {
			g.accept(i, p.fromUplink[:n])
		}
	}
}

func (g *Gate) accept(i int, frame []byte) {
	switch {
	case g.in.mode == open:
		g.deliver(Frame{i, frame})
	case g.in.mode == diverting:
		g.in.divert(Frame{i, frame})
	case g.in.mode == waiting && g.in.queue.bytes()+len(frame) <= g.limit.input:
		g.in.queue.push(i, frame)
	default:
		g.stats.inputDropped.Add(1)
	}
}

func (g *Gate) deliver(f Frame) {
	if err := g.ports[f.Port].tap.send(f.Data); err != nil {
		g.stats.inputDropped.Add(1)
		g.log.Debug("frame not delivered", "error", err)
		return
	}
	g.stats.delivered.Add(1)
}

// HoldInput makes arriving frames wait. Once it has returned nothing is on its
// way into the machine from here.
func (g *Gate) HoldInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = waiting
}

// OpenInput hands in what has waited, in order, and then what arrives.
func (g *Gate) OpenInput() {
	g.in.Lock()
	defer g.in.Unlock()
	for i := range g.in.queue.len() {
		g.deliver(g.in.queue.at(i))
	}
	g.in.queue.reset()
	g.in.mode = open
}

// DropInput drops what arrives, and what has waited.
func (g *Gate) DropInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = dropping
	g.in.queue.reset()
}

// DivertInput passes what has waited, and then what arrives, to a function
// instead of the machine. The function may block: frames then wait in the
// kernel. It must not call the gate.
func (g *Gate) DivertInput(to func(Frame)) {
	g.in.Lock()
	defer g.in.Unlock()
	for i := range g.in.queue.len() {
		to(g.in.queue.at(i))
	}
	g.in.queue.reset()
	g.in.mode, g.in.divert = diverting, to
}

// EndDivert diverts what is still readable on the uplinks and drops what comes
// later. It does nothing unless input is being diverted.
func (g *Gate) EndDivert() {
	g.in.Lock()
	defer g.in.Unlock()
	if g.in.mode != diverting {
		return
	}
	for i, p := range g.ports {
		p.uplink.raw.Control(func(fd uintptr) { _ = g.drainUplinkLocked(i, int(fd)) })
	}
	g.in.mode, g.in.divert = dropping, nil
}

// Inject hands one frame in before those that wait.
func (g *Gate) Inject(f Frame) {
	if f.Port < 0 || f.Port >= len(g.ports) || len(f.Data) < vnetHeader+ethernetHead {
		return
	}
	g.in.Lock()
	defer g.in.Unlock()
	g.deliver(f)
}
