package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Subnet is a prefix of a VPC. It is at home in one cluster; in all others it is
// virtual: packets for it go to the gateway.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=sn,categories=sluice
// +kubebuilder:printcolumn:name="VPC",type=string,JSONPath=`.spec.vpc`
// +kubebuilder:printcolumn:name="Prefix",type=string,JSONPath=`.spec.prefix`
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Virtual",type=boolean,JSONPath=`.status.virtual`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name is used as a label: at most 63 characters"
type Subnet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec   SubnetSpec   `json:"spec"`
	Status SubnetStatus `json:"status,omitempty"`
}

// SubnetList is a list of Subnets.
//
// +kubebuilder:object:root=true
type SubnetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Subnet `json:"items"`
}

// SubnetSpec is the subnet as it is wanted.
type SubnetSpec struct {
	// vpc is the name of the VPC.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a subnet does not move to another VPC: make a new one"
	// +required
	VPC string `json:"vpc"`

	// prefix of the subnet, IPv4 or IPv6.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self) == cidr(self).masked()",message="must be a prefix without host bits, such as 10.1.2.0/24 or fd00:1:2::/64"
	// +required
	Prefix string `json:"prefix"`

	// cluster is the name of the cluster that the subnet is at home in.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=48
	// +required
	Cluster string `json:"cluster"`
}

// SubnetStatus is the subnet as it is in this cluster.
type SubnetStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// virtual is true where the subnet is at home in another cluster.
	//
	// +optional
	Virtual bool `json:"virtual,omitempty"`

	// gateway that packets for it go to, where it is virtual.
	//
	// +optional
	Gateway string `json:"gateway,omitempty"`

	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
