package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Gateway is the gateway of a cluster: the machines that may be it, how others
// reach them, and which of them are it now.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=sgw,categories=sluice
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Expose",type=string,JSONPath=`.spec.exposeType`
// +kubebuilder:printcolumn:name="At Home",type=string,JSONPath=`.status.conditions[?(@.type=="AtHome")].status`
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=`.status.activeMembers[*].endpoint`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name is used as a label: at most 63 characters"
type Gateway struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec   GatewaySpec   `json:"spec"`
	Status GatewayStatus `json:"status,omitempty"`
}

// GatewayList is a list of Gateways.
//
// +kubebuilder:object:root=true
type GatewayList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Gateway `json:"items"`
}

// GatewaySpec is the gateway as it is wanted.
//
// +kubebuilder:validation:XValidation:rule="!has(self.exposeType) || self.exposeType != 'PublicIP' || !has(self.endpoints) || self.endpoints.all(e, has(e.address))",message="exposeType PublicIP needs the address of every endpoint"
type GatewaySpec struct {
	// cluster is the name of the cluster that the gateway is of; empty, the one that the object is in.
	//
	// +kubebuilder:validation:MaxLength=48
	// +optional
	Cluster string `json:"cluster,omitempty"`

	// nodeSelector selects the nodes that may be the gateway, beside those that endpoints name. Who runs on one says so in
	// status.endpoints.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// endpoints are the candidates. The ready one with the lowest priority is active, of several the one that comes first.
	//
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Endpoints []GatewayEndpoint `json:"endpoints,omitempty"`

	// exposeType is how others reach the gateway: at the addresses of its endpoints, of which each needs one; at those of a
	// load balancer, which stand there too; or not at all (then it dials). Left out, they reach it where it has an address.
	//
	// +kubebuilder:validation:Enum=PublicIP;LoadBalancer;None
	// +optional
	ExposeType ExposeType `json:"exposeType,omitempty"`

	// prefixes beside the subnets of VPCs that are behind the gateway, in the default VPC.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a prefix such as 10.1.0.0/16 or fd00:1::/48"
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=set
	// +optional
	Prefixes []string `json:"prefixes,omitempty"`
}

// ExposeType is how a gateway is reached.
type ExposeType string

// The ways.
const (
	ExposePublicIP     ExposeType = "PublicIP"
	ExposeLoadBalancer ExposeType = "LoadBalancer"
	ExposeNone         ExposeType = "None"
)

// GatewayEndpoint is a machine that may be the gateway.
type GatewayEndpoint struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`

	// node is the name of the Node that it runs on; empty for a machine outside the cluster.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`

	// address at which others reach it.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address"
	// +optional
	Address string `json:"address,omitempty"`

	// vtep is the address that the cluster's own nodes send to (sluice node); without it, the first address of the node.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address"
	// +optional
	VTEP string `json:"vtep,omitempty"`

	// port is the UDP port of WireGuard.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=51820
	// +optional
	Port int32 `json:"port,omitempty"`

	// publicKey is the WireGuard public key, base64; left out, it is the one that the gateway itself says (status.endpoints).
	//
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$`
	// +optional
	PublicKey string `json:"publicKey,omitempty"`

	// priority: the lowest is preferred.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=100
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// underNAT says that the address is not the machine's own.
	//
	// +optional
	UnderNAT bool `json:"underNAT,omitempty"`
}

// GatewayStatus is the gateway as it is.
type GatewayStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// endpoints are what machines say of themselves: those of spec.endpoints, and those that nodeSelector has found.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	// +optional
	Endpoints []EndpointStatus `json:"endpoints,omitempty"`

	// activeMembers are the endpoints that carry traffic, per VPC.
	//
	// +listType=atomic
	// +optional
	ActiveMembers []ActiveMember `json:"activeMembers,omitempty"`

	// connections to other gateways.
	//
	// +listType=map
	// +listMapKey=peer
	// +optional
	Connections []GatewayConnection `json:"connections,omitempty"`

	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EndpointStatus is a machine that is there.
type EndpointStatus struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// node that it runs on, if nodeSelector has found it, and address and port at which others reach it then.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Address string `json:"address,omitempty"`
	// +optional
	Port int32 `json:"port,omitempty"`

	// publicKey of its WireGuard, base64.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
}

// ConditionAtHome says whether a Gateway is ready in its own cluster; every other cluster of the tree is told. Whether
// it is of use there is in the condition Ready.
const ConditionAtHome = "AtHome"

// ActiveMember is an endpoint that carries traffic.
type ActiveMember struct {
	Endpoint string `json:"endpoint"`
	// vtep is where the cluster's nodes send what is for other clusters.
	//
	// +optional
	VTEP string `json:"vtep,omitempty"`
	// vpc that it carries; empty, all of them.
	//
	// +optional
	VPC string `json:"vpc,omitempty"`
	// +optional
	PublicKey string `json:"publicKey,omitempty"`
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// GatewayConnection is how it goes with one peer.
type GatewayConnection struct {
	// peer is the name of the other Gateway.
	Peer string `json:"peer"`

	// +kubebuilder:validation:Enum=Connected;Connecting;Down
	State ConnectionState `json:"state"`

	// +optional
	Message string `json:"message,omitempty"`

	// latencyMicroseconds is the round trip of the last probe.
	//
	// +optional
	LatencyMicroseconds *int64 `json:"latencyMicroseconds,omitempty"`

	// +optional
	LastHandshake *metav1.Time `json:"lastHandshake,omitempty"`
}

// ConnectionState is how it goes with a peer.
type ConnectionState string

// The states.
const (
	Connected  ConnectionState = "Connected"  // packets come in
	Connecting ConnectionState = "Connecting" // no handshake yet
	Down       ConnectionState = "Down"       // it answered once, and does no more
)
