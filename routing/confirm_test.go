package routing

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A router that answers OPEN and then says nothing, as one that uses another connection does, is called anew.
func TestASessionThatIsNotConfirmedIsBegunAnew(t *testing.T) {
	t.Parallel()
	gateway, router := newPair(t)
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(gateway.neighbour().Port)})
	if err != nil {
		t.Fatal(err)
	}
	gateway.set(t)
	if err := listener.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(message(1, unhex(t, "04 fdea 005a 0aff0002 08 0206 0104 0001 0001"))); err != nil {
		t.Fatal(err)
	}
	gateway.wantState(t, OpenConfirm)
	if err := conn.SetReadDeadline(time.Now().Add(4 * confirmTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, net.ErrClosed) || err != nil && err.(net.Error).Timeout() {
		t.Fatal("the session is still waited for")
	}
	// The router comes to itself.
	listener.Close()
	router.vpc().Export = prefixes("10.1.0.0/16")
	router.set(t)
	gateway.wants(t, "10.1.0.0/16")
}
