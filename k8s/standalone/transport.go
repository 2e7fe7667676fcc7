package standalone

import (
	"context"
	"io"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
)

// Config is how clients reach the Site: by calls within the process, no socket.
func (s *Site) Config() *rest.Config {
	return &rest.Config{
		Host: "http://standalone", Transport: transport{s}, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	}
}

// transport runs a handler where others dial.
type transport struct{ handler http.Handler }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	reader, writer := io.Pipe()
	w := &response{header: http.Header{}, body: writer, begun: make(chan struct{})}
	go func() {
		defer cancel()
		t.handler.ServeHTTP(w, r.WithContext(ctx))
		w.WriteHeader(http.StatusOK) // unless it was called
		writer.Close()
		if r.Body != nil {
			r.Body.Close()
		}
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done():
		reader.Close()
		cancel()
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: &body{reader, cancel}, ContentLength: -1, Request: r,
	}, nil
}

// body ends the handler when the client wants no more.
type body struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *body) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// response is the handler's side.
type response struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan struct{} // closed when code and sent are valid
	code   int
	sent   http.Header
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(code int) {
	w.once.Do(func() {
		w.code, w.sent = code, w.header.Clone()
		close(w.begun)
	})
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *response) Flush() { w.WriteHeader(http.StatusOK) }
