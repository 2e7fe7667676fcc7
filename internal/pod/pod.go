// Package pod is what the sample pods of the test beds run, as `sluice pod`: a
// service that says who answers whom, a client for it, and the process that holds
// a pod's namespaces. One static binary is the image of all of them, so a bed
// needs no image of anybody else's.
package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// shutdownTime is what a server that is told to end gives its last answers.
const shutdownTime = time.Second

// Wait returns when ctx ends: it holds a pod's namespaces.
func Wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Serve answers HTTP on a port until ctx ends: who answers, at which address, and
// from where the question came.
func Serve(ctx context.Context, port uint16) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprint(":", port))
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		fmt.Fprintf(w, "%s at %s for %s\n", name, local, r.RemoteAddr)
	})}
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		server.Shutdown(last)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Get asks a server and writes what it says.
func Get(ctx context.Context, url string, timeout time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, answer.Status)
	}
	if _, err := io.Copy(out, answer.Body); err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	return nil
}
