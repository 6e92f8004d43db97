package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
)

func TestObserverForgetsTheOldest(t *testing.T) {
	o := &Observer{counts: map[Voice]*Count{}}
	const extra = 10
	for i := range observedFrames + extra {
		o.add(Frame{Time: time.Unix(0, int64(i)), Host: "a", Length: 60, Head: []byte{byte(i)}})
	}
	frames := o.Frames(nil)
	if len(frames) != observedFrames {
		t.Fatalf("%d frames", len(frames))
	}
	for i, f := range frames {
		if at := int64(i + extra); f.Time.UnixNano() != at || f.Head[0] != byte(at) {
			t.Fatalf("frame %d is of %v with head %x", i, f.Time.UnixNano(), f.Head)
		}
	}
	if n := o.SentBy("a", MAC{}).Frames; n != 0 {
		t.Errorf("%d frames counted as sent", n)
	}
}

func TestObserverBoundsSources(t *testing.T) {
	o := &Observer{counts: map[Voice]*Count{}}
	for i := range 2 * observedMACs {
		o.add(Frame{Sent: true, Source: MAC{1, byte(i), byte(i >> 8)}, Length: 1})
	}
	if n := len(o.Counts()); n > observedMACs+1 {
		t.Errorf("%d counts", n)
	}
	if n := o.SentBy("", MAC{}).Frames; n != observedMACs {
		t.Errorf("%d of a flood counted", n)
	}
}

func TestWritePCAP(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	frames := []Frame{
		{Time: at, Host: "a", Port: "in", Length: 1500, Head: make([]byte, 64)},
		{Time: at, Host: "b", Port: "out", Length: 60, Head: make([]byte, 60)},
		{Time: at, Host: "a", Port: "in", Length: 60, Head: make([]byte, 60)},
	}
	var b bytes.Buffer
	if err := WritePCAP(&b, frames); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&b, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		ifc, err := r.Interface(info.InterfaceIndex)
		if err != nil || ifc.Name != f.Host+"/"+f.Port {
			t.Errorf("frame %d: interface %q, %v", i, ifc.Name, err)
		}
		if len(data) != len(f.Head) || info.Length != f.Length || !info.Timestamp.Equal(at) {
			t.Errorf("frame %d: got %+v", i, info)
		}
	}
}
