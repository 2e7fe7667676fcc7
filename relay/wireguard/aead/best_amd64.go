package aead

import "sync"

// Best returns the fastest cipher that this CPU can run.
func Best() Cipher { return best() }

// best asks the CPU once.
var best = sync.OnceValue(func() Cipher { return choose(hasAVX512()) })

func choose(vectors bool) Cipher {
	if vectors {
		return avx512{}
	}
	return Generic()
}
