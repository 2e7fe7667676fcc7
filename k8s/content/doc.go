// Package content turns what a Mission carries into objects, and what became of
// them into words. It is pure: it talks to no API server; that is the agent's work.
//
// All functions may be called from any goroutine. Objects that they return belong
// to the caller.
package content
