package method

import "runtime"

// lockThread keeps the goroutine on its thread until the returned function is called.
func lockThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
