// Package sluice is the root of the module; it holds no code, only the tests that keep the shape of the tree:
// who may import whom (imports_test.go) and that ARCHITECTURE.md names things that exist (architecture_test.go).
package sluice
