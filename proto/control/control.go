// Package control is the daemon's API: gRPC messages over a unix socket.
//
// The Go code is generated from control.proto.
package control

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative control.proto

// MaxMessage bounds a message of the API in both directions, in bytes.
const MaxMessage = 1 << 20
