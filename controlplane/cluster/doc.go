// Package cluster decides which gateway of a site is active for which VPC, and
// which of them the gateways of other sites believe.
//
// A gateway is active for a VPC while it holds a lease that a majority of voters
// has granted: the members of the site's cluster and its witnesses, which are
// gateways of other sites. A Voter grants a VPC to one member at a time; a Machine
// is a member, that stands for election, renews its leases and hands them over; a
// Fence is what a gateway of another site makes of the members' claims: of a
// cluster it takes a VPC's packets from the one with the highest epoch. Why that is
// safe is argued in docs/ha.md.
//
// All of it is a function of what it is told: there is no clock, socket or goroutine
// in here, and simulation_test.go drives whole clusters through kills, pauses and
// partitions. Times are nanoseconds of a clock that never stops or steps back
// (CLOCK_BOOTTIME); they never leave the gateway they were read at. Nothing is kept
// on disk: a voter that starts grants nothing for as long as a lease lasts that it
// may have forgotten.
//
// Values are owned by the one goroutine that uses them.
package cluster
