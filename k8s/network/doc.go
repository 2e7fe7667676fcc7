// Package network makes a gateway's configuration out of the Gateway, VPC and
// Subnet objects in its cluster's API server, and what these objects are told about
// themselves. It is a pure function, Compile: no input, output or clock, so the same
// objects give the same bytes at every gateway and after every restart.
//
// It does not watch, apply or write status. What it returns belongs to the caller,
// and it may be called from any goroutine.
//
//	r, err := network.Compile(machine, objects)
//	text, err := r.Config.Marshal() // for the gateway's Apply
//
// What an object does wrong is a Problem of that object, and the others go on
// without it.
package network
