//go:build !amd64

package aead

// Best returns the fastest cipher that this CPU can run.
func Best() Cipher { return Generic() }
