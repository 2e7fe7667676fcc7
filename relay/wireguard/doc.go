// Package wireguard speaks the WireGuard protocol. (Skeleton: the exported API.)
package wireguard
