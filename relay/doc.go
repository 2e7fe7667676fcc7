// Package relay moves packets between the ports of a gateway: what a site
// sends to another site is taken out of its overlay, sealed with WireGuard and
// sent over the WAN; what a peer sends is opened, checked and delivered.
package relay
