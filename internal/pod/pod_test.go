package pod

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestGetHearsWhoServes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, uint16(port)) }()

	target := fmt.Sprint("127.0.0.1:", port)
	var out bytes.Buffer
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err = Get(t.Context(), target, time.Second, &out); err == nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), " at "+target+" for 127.0.0.1:") {
		t.Errorf("the answer is %q", out.String())
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("told to end: %v", err)
	}
	if err := Get(t.Context(), target, time.Second, &out); err == nil {
		t.Error("it answers after its end")
	}
}

func TestWaitWaits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Wait(ctx); err != nil || ctx.Err() == nil {
		t.Errorf("Wait returned %v, the context %v", err, ctx.Err())
	}
}
