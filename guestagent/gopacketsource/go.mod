module github.com/stillpoint-ft/stillpoint/guestagent/gopacketsource

go 1.25.0

require (
	github.com/gopacket/gopacket v1.7.7
	github.com/stillpoint-ft/stillpoint/guestagent v0.1.0
)

require (
	github.com/safchain/ethtool v0.7.0 // indirect
	github.com/stillpoint-ft/stillpoint/proto/agent v0.1.0 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/sys v0.45.0 // indirect
)

replace (
	github.com/stillpoint-ft/stillpoint/guestagent => ..
	github.com/stillpoint-ft/stillpoint/proto/agent => ../../proto/agent
)
