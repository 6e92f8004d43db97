// Package api serves a daemon's verbs and status as the control service of proto/control,
// to the operator on this host and, by certificate, to other hosts.
package api
