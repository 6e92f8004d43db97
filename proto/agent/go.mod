module github.com/stillpoint-ft/stillpoint/proto/agent

go 1.22
