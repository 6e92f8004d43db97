//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// flood plays a hostile guest: it writes to every virtio-serial port as fast as
// the host takes it, random bytes and well-formed answers that nobody asked for.
func flood(ports string) {
	found, _ := filepath.Glob(ports)
	fmt.Println("STILLPOINT-GUEST floods", found)
	for _, port := range found {
		go floodPort(port)
	}
}

func floodPort(port string) {
	random := rand.NewChaCha8([32]byte{})
	garbage := make([]byte, 4096)
	for {
		f, err := os.OpenFile(port, os.O_RDWR, 0)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for err == nil {
			random.Read(garbage)
			_, err = f.Write(append(unasked(random), garbage...))
		}
		f.Close()
	}
}

// unasked are frames of a session and a request that the host may well have.
func unasked(random *rand.ChaCha8) []byte {
	var b []byte
	for request := range uint64(8) {
		h := agent.Header{Type: agent.TypeQuiescent, Session: random.Uint64(), Epoch: request}
		if frame, err := agent.Append(b, h, agent.Quiescent{Request: request}.Append(nil)); err == nil {
			b = frame
		}
	}
	return b
}
