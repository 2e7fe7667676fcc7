package network

import (
	"crypto/sha256"
	"net/netip"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Machine is what only the gateway's machine knows.
type Machine struct {
	// Cluster is the name of the cluster, Gateway that of the Gateway object, and Endpoint which of its endpoints this is.
	Cluster, Gateway, Endpoint string
	// Node that it runs on, for Gateways that select nodes; empty, it is none of the cluster's.
	Node string
	// PublicKey of this gateway.
	PublicKey config.PublicKey
	// File is the gateway's own part of the configuration: ports, keys, and VPCs and peers that are no objects.
	File *config.Config
	// Attachment is how the cluster's nodes reach the gateway, in every VPC; without prefixes. Nil: the gateway has no
	// subnets of its own cluster.
	Attachment *config.Attachment
}

// Objects are what the cluster's API server has.
type Objects struct {
	Gateways []v1alpha1.Gateway
	VPCs     []v1alpha1.VPC
	Subnets  []v1alpha1.Subnet
	// PodNodes are the cluster's nodes, with the pods that they have.
	PodNodes []PodNode
	// Nodes of the cluster, by name.
	Nodes map[string]Node
}

// Node is what there is to know of a node.
type Node struct {
	Ready   bool
	Labels  map[string]string
	Address string // at which others reach it
}

// Result is the configuration, and what became of each object, by name.
type Result struct {
	Config   *config.Config
	VPCs     map[string]VPC
	Subnets  map[string]Subnet
	Gateways map[string]Gateway
}

// VPC is what became of a VPC.
type VPC struct {
	VNI     int32 // 0: it has none
	Problem *Problem
}

// Subnet is what became of a Subnet.
type Subnet struct {
	Virtual bool   // at home in another cluster
	Gateway string // the Gateway of that cluster, if one is known
	Problem *Problem
}

// Gateway is what became of a Gateway.
type Gateway struct {
	Own     bool   // it is this cluster's, and this machine one of its endpoints
	Active  string // name of the endpoint that carries traffic
	Problem *Problem
}

// Problem is why an object has no effect, or not its whole effect.
type Problem struct {
	Reason  string // a word for a condition
	Message string // names the field
}

// Reasons.
const (
	ReasonDuplicateVNI = "DuplicateVNI" // an older VPC has the number
	ReasonInvalid      = "Invalid"      // the object contradicts itself, another one or the gateway's file
	ReasonMissing      = "Missing"      // what it refers to is not there
	ReasonNotReady     = "NotReady"     // what it refers to has a problem itself
)

// TunnelAddress is where the gateway with a public key is inside the tunnels: an IPv6
// address of the range for everybody's own use (RFC 4193) that is a hash of the key.
// So nobody has to hand out addresses, and none can be taken by mistake.
func TunnelAddress(key config.PublicKey) netip.Addr {
	sum := sha256.Sum256(key[:])
	a := [16]byte{0xfd}
	copy(a[1:], sum[:])
	return netip.AddrFrom16(a)
}
