package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EdgeCluster is a child of the cluster that the object is in. `sluice join` makes
// it; deleting it takes the child's permissions away.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ec,categories=sluice
// +kubebuilder:printcolumn:name="Health",type=string,JSONPath=`.status.health`
// +kubebuilder:printcolumn:name="Last Heartbeat",type=date,JSONPath=`.status.lastHeartbeat`
// +kubebuilder:printcolumn:name="Sub-Clusters",type=string,JSONPath=`.status.subClusters`
// +kubebuilder:printcolumn:name="Received Missions",type=string,JSONPath=`.status.receivedMissions`
// +kubebuilder:printcolumn:name="Matched Missions",type=string,JSONPath=`.status.matchedMissions`
// +kubebuilder:printcolumn:name="Distro",type=string,JSONPath=`.status.distro`,priority=1
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,priority=1
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.capacity.nodes`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,46}[a-z0-9])?$')",message="the name of a cluster is at most 48 lower-case letters, digits and dashes"
type EdgeCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EdgeClusterSpec   `json:"spec,omitempty"`
	Status EdgeClusterStatus `json:"status,omitempty"`
}

// EdgeClusterList is a list of EdgeClusters.
//
// +kubebuilder:object:root=true
type EdgeClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EdgeCluster `json:"items"`
}

// EdgeClusterSpec is what the parent wants of a child.
type EdgeClusterSpec struct {
	// labels are added to those that the child has by itself, for the placement of Missions.
	//
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// EdgeClusterStatus is what the child reported last, and whether it still does.
type EdgeClusterStatus struct {
	// path leads from the root of the tree to the child, as far as it is known here.
	//
	// +optional
	Path string `json:"path,omitempty"`

	// +optional
	Health Health `json:"health,omitempty"`

	// message says why the health is what it is.
	//
	// +optional
	Message string `json:"message,omitempty"`

	// lastHeartbeat is when the last report came in, by this cluster's clock.
	//
	// +optional
	LastHeartbeat *metav1.Time `json:"lastHeartbeat,omitempty"`

	// reportedHeartbeat is the time in that report, by the child's clock; as long as it stands still, nothing is heard.
	//
	// +optional
	ReportedHeartbeat *metav1.MicroTime `json:"reportedHeartbeat,omitempty"`

	ClusterState `json:",inline"`
}

// Health of a cluster.
//
// +kubebuilder:validation:Enum=healthy;unhealthy;disconnected
type Health string

// The kinds of health.
const (
	Healthy      Health = "healthy"
	Unhealthy    Health = "unhealthy"    // the agent reports, its API server does not answer
	Disconnected Health = "disconnected" // nothing is heard of the agent
)

// ClusterState is what a cluster says of itself.
type ClusterState struct {
	// distro is the flavour of Kubernetes: k8s, k3s, ...
	//
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Distro string `json:"distro,omitempty"`

	// version of its API server.
	//
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Version string `json:"version,omitempty"`

	// agentVersion is that of Sluice.
	//
	// +kubebuilder:validation:MaxLength=128
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`

	// labels are those that placement goes by.
	//
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// nodes of the cluster; of very many, the first 500 by name.
	//
	// +kubebuilder:validation:MaxItems=500
	// +listType=map
	// +listMapKey=name
	// +optional
	Nodes []NodeState `json:"nodes,omitempty"`

	// +optional
	Capacity *Capacity `json:"capacity,omitempty"`

	// subClusters are the clusters below, path to health.
	//
	// +optional
	SubClusters map[string]Health `json:"subClusters,omitempty"`

	// network is what the cluster and those below have that others need to know; left out as long as that is not known.
	//
	// +optional
	Network *NetworkState `json:"network,omitempty"`

	// receivedMissions are those that came from the parent.
	//
	// +listType=set
	// +optional
	ReceivedMissions []string `json:"receivedMissions,omitempty"`

	// matchedMissions are those of them that select this cluster.
	//
	// +listType=set
	// +optional
	MatchedMissions []string `json:"matchedMissions,omitempty"`
}

// NetworkState is what clusters need to know of each other to be connected.
type NetworkState struct {
	// gateways of the cluster and of those below; of very many, the first 1000 by name. It is there also when it is
	// empty: of an object with nothing in it, an apply that takes the last away makes null, which is refused.
	//
	// +kubebuilder:validation:MaxItems=1000
	// +listType=map
	// +listMapKey=name
	// +required
	Gateways []GatewayState `json:"gateways"`
}

// GatewayState is what is said of a Gateway in its own cluster.
type GatewayState struct {
	// name of the Gateway object.
	Name string `json:"name"`

	// cluster that it is of.
	Cluster string `json:"cluster"`

	// spec, if the object was made in or below the cluster that reports, and did not come from above. It is checked when
	// the parent makes a Gateway of it.
	//
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Spec *GatewaySpec `json:"spec,omitempty"`

	// +listType=map
	// +listMapKey=name
	// +optional
	Endpoints []EndpointStatus `json:"endpoints,omitempty"`

	// +listType=atomic
	// +optional
	ActiveMembers []ActiveMember `json:"activeMembers,omitempty"`

	// atHome is the condition of this type.
	//
	// +optional
	AtHome *metav1.Condition `json:"atHome,omitempty"`
}

// NodeState is one node.
type NodeState struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	// +optional
	Edge bool `json:"edge,omitempty"`
}

// Capacity sums up a cluster's nodes.
type Capacity struct {
	Nodes      int32 `json:"nodes"`
	ReadyNodes int32 `json:"readyNodes"`
	// allocatable on ready nodes.
	//
	// +optional
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
}
