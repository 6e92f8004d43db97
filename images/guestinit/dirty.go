//go:build linux

package main

import "time"

// dirty rewrites as many pages every 10 ms, for ever.
func dirty(pages int) {
	const size = 4096
	memory := make([]byte, pages*size)
	for n := byte(1); ; n++ {
		for at := 0; at < len(memory); at += size {
			memory[at] = n
		}
		time.Sleep(10 * time.Millisecond)
	}
}
