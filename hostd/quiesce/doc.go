// Package quiesce is the host's end of the session with the agent in a guest:
// it asks for a still point before a checkpoint and lets packets flow again
// after it.
//
// The guest is not trusted. Whatever it sends or fails to send, [Session.Quiesce]
// returns by its deadline, [Session.Resume] returns at once, memory stays what
// it was, and reading is limited in bytes per second.
package quiesce
