package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MissionReport is what a child says about a Mission, for itself and all clusters
// below it. The child writes it in its namespace at its parent; the parent folds it
// into the status of the Mission of the same name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=mir,categories=sluice
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.report.clusters[0].state`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MissionReport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Report MissionReportBody `json:"report,omitempty"`
}

// MissionReportList is a list of MissionReports.
//
// +kubebuilder:object:root=true
type MissionReportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MissionReport `json:"items"`
}

// MissionReportBody holds the entries.
type MissionReportBody struct {
	// clusters has the child itself, with an empty path, and those below it.
	//
	// +listType=map
	// +listMapKey=path
	// +optional
	Clusters []MissionState `json:"clusters,omitempty"`
}

// ClusterReport is what a child says about itself. The child writes report, in its
// namespace at its parent; the parent answers in status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=cr,categories=sluice
// +kubebuilder:printcolumn:name="Health",type=string,JSONPath=`.report.health`
// +kubebuilder:printcolumn:name="Heartbeat",type=date,JSONPath=`.report.heartbeat`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterReport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Report ClusterReportBody   `json:"report,omitempty"`
	Status ClusterReportStatus `json:"status,omitempty"`
}

// ClusterReportList is a list of ClusterReports.
//
// +kubebuilder:object:root=true
type ClusterReportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterReport `json:"items"`
}

// ClusterReportBody is the report.
type ClusterReportBody struct {
	// health as the agent sees its own API server.
	//
	// +kubebuilder:validation:XValidation:rule="self != 'disconnected'",message="only the parent can say that"
	// +optional
	Health Health `json:"health,omitempty"`

	// message says why the cluster is not healthy.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// heartbeat is the time of the report by the child's clock. The parent only looks whether it moves.
	//
	// +optional
	Heartbeat *metav1.MicroTime `json:"heartbeat,omitempty"`

	// heartbeatSeconds is how often it moves at the least.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +optional
	HeartbeatSeconds int32 `json:"heartbeatSeconds,omitempty"`

	ClusterState `json:",inline"`
}

// ClusterReportStatus is what the child has to know of itself and only the parent
// can say.
type ClusterReportStatus struct {
	// path leads from the root of the tree to the child.
	//
	// +optional
	Path string `json:"path,omitempty"`

	// labels are those that the parent adds.
	//
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}
