package gateway

import (
	"net"
	"os"
)

// notifySystemd tells systemd how far the service is (sd_notify(3)), when systemd started it. Nothing depends on it, so
// a socket that does not take it is no error of ours.
func notifySystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(state))
}
