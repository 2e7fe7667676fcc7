// Package contestants has the gateways that are measured: Sluice, and those that one
// would use in its place. Each is a scenario.Driver that configures and starts what
// others wrote, unmodified; the only gateway with code of its own is the relay in
// folder pcaprelay.
//
// What is not installed is built from the Go module proxy into bench/out, with the
// versions pinned in this module's go.mod or, where a program brings its own world of
// dependencies, in a module of its own below this folder.
//
//	for _, driver := range contestants.All() {
//		run, err := scenario.New(driver).Start(ctx, method.Scenario{Size: 512})
//		...
//	}
package contestants
