// Package pki is how hosts know each other: mutual TLS 1.3 (RFC 8446) by
// certificates of one authority, which a site has or Init makes.
//
// A host's certificate carries two DNS names: the host's own, by which its
// peers know it, and Cluster, by which the members of the embedded arbiter know
// each other. Addresses are not compared: hosts may have several.
//
// An Identity reads its files again when they have changed, so certificates are
// renewed without a restart. Sessions are not resumed, so that a withdrawn
// authority counts at the next connection.
package pki
