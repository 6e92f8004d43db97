package gate

// Wires open the interfaces that a gate's ports name.
type Wires interface {
	Open(name string) (Wire, error)
	// Close is called once, after every wire was closed.
	Close()
}

// Wire is one interface. Frames pass with their virtio header (10 bytes). One
// goroutine at a time may receive, any may send.
type Wire interface {
	// Await calls drain with what to receive from whenever frames may be readable,
	// until it fails, and returns its error; nil when the wire was closed.
	Await(drain func(fd int) error) error
	// Now calls drain once, unless the wire was closed. It is called by who may
	// receive.
	Now(drain func(fd int))
	// Receive reads one frame into b, or reports again when nothing is readable.
	Receive(fd int, b []byte) (n int, again bool, err error)
	// Offer writes at most 32 frames, in order, as many as leave at once; it never
	// waits. It returns with how many of the first it is done, how many of these are
	// lost, and why the last of them is; full says that the rest may be tried again.
	// It does not keep them.
	Offer(frames [][]byte) (done, lost int, full bool, err error)
	// SendAll writes at most 32 frames. It returns how many are lost, and why the
	// last of them is. It does not keep them.
	SendAll(frames [][]byte) (lost int, err error)
	// Taken counts the frames that have left through the interface: of a tap those
	// that the process behind it has read.
	Taken() (uint64, error)
	Close()
}

// interfaces are this host's.
type interfaces struct{ counts *kernelCounts }

func openInterfaces() (*interfaces, error) {
	counts, err := openKernelCounts()
	return &interfaces{counts}, err
}

func (i *interfaces) Open(name string) (Wire, error) {
	s, err := openSocket(name)
	if err != nil {
		return nil, err
	}
	s.counts = i.counts
	return s, nil
}

func (i *interfaces) Close() { i.counts.close() }

// Await drains the socket whenever it is readable.
func (s *socket) Await(drain func(fd int) error) (failed error) {
	_ = s.raw.Read(func(fd uintptr) bool { // an error: closed
		failed = drain(int(fd))
		return failed != nil
	})
	return failed
}

// Now calls drain with the socket's descriptor.
func (s *socket) Now(drain func(fd int)) {
	s.drain = drain
	_ = s.raw.Control(s.drainNow) // an error: closed
}

// Taken asks the kernel.
func (s *socket) Taken() (uint64, error) { return s.counts.sent(s.index) }
