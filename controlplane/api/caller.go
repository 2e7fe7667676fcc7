package api

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

type callerKey struct{}

// withCaller notes who is at the other end of a connection.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return ctx
	}
	var who *unix.Ucred
	if raw.Control(func(fd uintptr) { who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, fmt.Sprintf("uid %d, pid %d", who.Uid, who.Pid))
}

// Caller says in words which process made a call, as the kernel knew it when it
// connected (SO_PEERCRED), for the log.
func Caller(ctx context.Context) string {
	if who, ok := ctx.Value(callerKey{}).(string); ok {
		return who
	}
	return "unknown"
}
