package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// AlreadySecure are gRPC's credentials for a server whose connections come from
// a Mux, their handshake done. Handlers find the peer in credentials.TLSInfo,
// whose State is for PeerName.
func AlreadySecure() credentials.TransportCredentials { return alreadySecure{} }

type alreadySecure struct{}

func (alreadySecure) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("the connection is not secured")
	}
	state := secured.ConnectionState()
	if !state.HandshakeComplete {
		return nil, nil, errors.New("the connection is not secured yet")
	}
	return conn, credentials.TLSInfo{State: state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (alreadySecure) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

func (alreadySecure) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", SecurityVersion: "1.3"}
}

func (alreadySecure) Clone() credentials.TransportCredentials { return alreadySecure{} }

func (alreadySecure) OverrideServerName(string) error { return nil }
