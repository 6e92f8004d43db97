package sim

import (
	"os"
	"sync"
)

// spare are memory files of earlier runs, all zeros: to fill a new one takes longer
// than the rest of a run.
var spare struct {
	mu    sync.Mutex
	files []string
}

// takeRAM is a file for the memory of a QEMU that waits.
func (w *world) takeRAM() (path string, err error) {
	spare.mu.Lock()
	if n := len(spare.files); n > 0 {
		path = spare.files[n-1]
		spare.files = spare.files[:n-1]
	}
	spare.mu.Unlock()
	if path == "" {
		path, err = makeRAM()
	}
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ram = append(w.ram, path)
	}
	return path, err
}

func makeRAM() (string, error) {
	f, err := os.CreateTemp(memoryDir(), "sim-ram")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return f.Name(), f.Truncate(memory)
}

// giveBack what a run has used that has come to its end.
func (w *world) giveBack() {
	for _, path := range w.ram {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, err = f.WriteAt(make([]byte, guestPages*pageSize), 0)
		f.Close()
		if err != nil {
			continue
		}
		spare.mu.Lock()
		spare.files = append(spare.files, path)
		spare.mu.Unlock()
	}
}

func removeSpare() {
	for _, path := range spare.files {
		os.Remove(path)
	}
}
