package scene

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
)

// TrafficOptions describe what passes through the machine.
type TrafficOptions struct {
	// Rate of numbered UDP packets per second; each is answered.
	Rate int
	// TCPRate in bytes per second; 0 is no TCP stream.
	TCPRate uint64
	// Stream distinguishes the packets of several traffics; from 1.
	Stream uint32
}

// Traffic is under way until Stop.
type Traffic struct {
	Recorder  *traffic.Recorder
	udpServer *traffic.UDPServer
	udpClient *traffic.UDPClient
	tcpServer *traffic.TCPServer
	transfer  *traffic.Transfer
}

// Result of a traffic.
type Result struct {
	Log     traffic.Log
	Verdict traffic.Verdict
	// TCP is what became of the stream; Intact is true where there was none.
	TCP traffic.TransferResult
}

// StartTraffic sends from the client to the server until Stop.
func (s *Scene) StartTraffic(ctx context.Context, o TrafficOptions) (*Traffic, error) {
	const packets = 4 << 20
	t := &Traffic{Recorder: traffic.NewRecorder(packets)}
	if err := s.start(ctx, t, o); err != nil {
		t.close()
		return nil, s.Explain(err)
	}
	return t, nil
}

func (s *Scene) start(ctx context.Context, t *Traffic, o TrafficOptions) (err error) {
	if t.udpServer, err = traffic.StartUDPServer(s.Server.Name, s.address(lab.ServerAddress, probePort), t.Recorder); err != nil {
		return err
	}
	if o.TCPRate > 0 {
		if t.tcpServer, err = traffic.StartTCPServer(s.Server.Name, s.address(lab.ServerAddress, tcpPort)); err != nil {
			return err
		}
		if t.transfer, err = traffic.StartTransfer(ctx, s.Client.Name, traffic.TransferOptions{
			Server: t.tcpServer.Addr(), Seed: uint64(o.Stream) + 1, Rate: o.TCPRate}); err != nil {
			return err
		}
	}
	t.udpClient, err = traffic.StartUDPClient(s.Client.Name, traffic.UDPClientOptions{
		Server: t.udpServer.Addr(), Stream: o.Stream, Rate: o.Rate, Linger: 2 * time.Second}, t.Recorder)
	return err
}

// Replied is how many answers have come back so far.
func (t *Traffic) Replied() uint64 { return t.udpClient.Replied() }

// TCPReceived is how many bytes of the TCP stream have come through so far.
func (t *Traffic) TCPReceived() uint64 { return t.tcpServer.Received() }

// TCPRetransmits is how many segments of the TCP stream were sent again so far.
func (t *Traffic) TCPRetransmits() (int, error) { return t.transfer.Retransmits() }

// String tells how far it has come.
func (t *Traffic) String() string {
	text := fmt.Sprintf("%d requests sent, %d answered", t.udpClient.Sent(), t.udpClient.Replied())
	if t.transfer == nil {
		return text
	}
	text += fmt.Sprintf("; TCP: %d bytes sent, %d received", t.transfer.Sent(), t.tcpServer.Received())
	if patience, err := t.transfer.Patience(); err == nil {
		text += fmt.Sprintf(", sends again after %v", patience)
	}
	select {
	case <-t.transfer.Done():
		return text + ", ended"
	default:
		return text
	}
}

// Flowing waits until more packets come back, and more of the TCP stream.
func (t *Traffic) Flowing(ctx context.Context, packets uint64) error {
	replied := t.Replied() + packets
	var bytes uint64
	if t.tcpServer != nil {
		bytes = t.tcpServer.Received() + 1
	}
	return Until(ctx, func() bool {
		return t.Replied() >= replied && (t.tcpServer == nil || t.tcpServer.Received() >= bytes)
	})
}

// Stop ends the traffic, waits for what is under way, and judges it.
func (t *Traffic) Stop(ctx context.Context) (Result, error) {
	err := t.udpClient.Stop()
	r := Result{TCP: traffic.TransferResult{Intact: true}}
	if t.transfer != nil {
		r.TCP = t.transfer.Finish(ctx)
	}
	t.udpClient = nil
	r.Log = t.Recorder.Log()
	r.Verdict = traffic.Judge(r.Log)
	return r, errors.Join(err, t.close())
}

func (t *Traffic) close() error {
	var errs []error
	if t.udpClient != nil {
		errs = append(errs, t.udpClient.Stop())
	}
	if t.udpServer != nil {
		errs = append(errs, t.udpServer.Close())
	}
	if t.tcpServer != nil {
		errs = append(errs, t.tcpServer.Close())
	}
	return errors.Join(errs...)
}
