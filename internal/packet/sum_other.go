//go:build !amd64

package packet

// vectors says that sumBlocks can be called.
const vectors = false

func sumBlocks(*byte, int) uint64 { panic("packet: sumBlocks without vectors") }
