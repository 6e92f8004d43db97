package gate

import "sync"

// turnLock is a mutex that callers of Lock get after at most one holder who came by
// LockLast: a flood of frames, whose bearer takes the lock again and again, keeps
// nobody waiting.
type turnLock struct{ patient, next, held sync.Mutex }

func (l *turnLock) Lock() {
	l.next.Lock()
	l.held.Lock()
	l.next.Unlock()
}

func (l *turnLock) Unlock() { l.held.Unlock() }

func (l *turnLock) LockLast() {
	l.patient.Lock()
	l.Lock()
}

func (l *turnLock) UnlockLast() {
	l.held.Unlock()
	l.patient.Unlock()
}
