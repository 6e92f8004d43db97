// Package segment knows the headers of frames that begin with a virtio header, as they pass
// between a tap, an uplink and a log. It cuts a frame that stands for many segments (TSO,
// USO) into these, in tunnels too, of which the virtio header cannot tell.
package segment
