package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VPC is a routing domain: what is in it reaches each other, and nothing else does.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=vpcs,singular=vpc,shortName=vpc,categories=sluice
// +kubebuilder:printcolumn:name="VNI",type=integer,JSONPath=`.status.vni`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name is used as a label: at most 63 characters"
type VPC struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   VPCSpec   `json:"spec,omitempty"`
	Status VPCStatus `json:"status,omitempty"`
}

// VPCList is a list of VPCs.
//
// +kubebuilder:object:root=true
type VPCList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VPC `json:"items"`
}

// VPCSpec is the VPC as it is wanted.
type VPCSpec struct {
	// vni of the VPC, 24 bits; without it, a free one is taken, the same in all clusters below.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	// +optional
	VNI *int32 `json:"vni,omitempty"`

	// prefixes that its subnets are cut from; without any, subnets are free.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a prefix such as 10.1.0.0/16 or fd00:1::/48"
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=set
	// +optional
	Prefixes []string `json:"prefixes,omitempty"`
}

// VPCStatus is the VPC as it is.
type VPCStatus struct {
	// observedGeneration is that of which vni and state are.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// vni that it has, given by the cluster's agent.
	//
	// +optional
	VNI int32 `json:"vni,omitempty"`

	// +optional
	State VPCState `json:"state,omitempty"`

	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// VPCState is a VPC's state in one word.
//
// +kubebuilder:validation:Enum=Ready;DuplicateVNI
type VPCState string

// The states.
const (
	VPCReady     VPCState = "Ready"
	DuplicateVNI VPCState = "DuplicateVNI" // an older VPC, or one from above, has the number; heals when that one lets go of it
)
