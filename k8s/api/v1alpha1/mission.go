package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Mission is a workload with a placement: objects (or a command) for some of the
// clusters below the one it is written in. The Mission travels to every cluster
// below; its content only goes to those that the placement selects.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mi,categories=sluice
// +kubebuilder:printcolumn:name="Summary",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Matched",type=integer,JSONPath=`.status.totals.matched`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.totals.ready`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.totals.failed`,priority=1
// +kubebuilder:printcolumn:name="Unreachable",type=integer,JSONPath=`.status.totals.unreachable`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name is used as a label: at most 63 characters"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.dependsOn) || !(self.metadata.name in self.spec.dependsOn)",message="a Mission cannot depend on itself"
type Mission struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec   MissionSpec   `json:"spec"`
	Status MissionStatus `json:"status,omitempty"`
}

// MissionList is a list of Missions.
//
// +kubebuilder:object:root=true
type MissionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Mission `json:"items"`
}

// MissionSpec says what goes where.
//
// +kubebuilder:validation:XValidation:rule="has(self.manifests) || has(self.resources) || has(self.command)",message="a Mission needs content: manifests, resources or command"
// +kubebuilder:validation:XValidation:rule="!has(self.command) || !(has(self.manifests) || has(self.resources))",message="command excludes manifests and resources"
type MissionSpec struct {
	// manifests is YAML or JSON text with any number of Kubernetes objects. Objects without a namespace go to "default".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1000000
	// +optional
	Manifests string `json:"manifests,omitempty"`

	// resources are Kubernetes objects, embedded. They are applied after those of manifests.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:XEmbeddedResource
	// +kubebuilder:validation:items:XPreserveUnknownFields
	// +optional
	Resources []runtime.RawExtension `json:"resources,omitempty"`

	// command is run on the host of the agent, where the agent's own configuration allows it.
	//
	// +optional
	Command *MissionCommand `json:"command,omitempty"`

	// placement selects clusters; empty, it selects all of them.
	//
	// +optional
	Placement Placement `json:"placement,omitempty"`

	// stateCheck says what is shown as the state of this Mission in a cluster; without it, how its objects are doing.
	//
	// +optional
	StateCheck *StateCheck `json:"stateCheck,omitempty"`

	// dependsOn names Missions that have to be ready in a cluster before this one is applied there. One that the cluster
	// is not selected for does not hold this one up.
	//
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	DependsOn []string `json:"dependsOn,omitempty"`

	// prune deletes objects from the clusters when they leave the content.
	//
	// +kubebuilder:default=true
	// +optional
	Prune *bool `json:"prune,omitempty"`

	// adoption says what becomes of an object that is there already and belongs to no Mission: Adopt takes it over (and
	// deletes it with the Mission), Refuse leaves it and reports. An object of another Mission is always left.
	//
	// +kubebuilder:default=Adopt
	// +optional
	Adoption AdoptionPolicy `json:"adoption,omitempty"`

	// conflicts says what happens when somebody else has set a field that the content sets: Overwrite takes it back, Report
	// leaves it and names it in the state.
	//
	// +kubebuilder:default=Overwrite
	// +optional
	Conflicts ConflictPolicy `json:"conflicts,omitempty"`

	// deletion says what becomes of the objects when the Mission is deleted or a cluster is no longer selected.
	//
	// +kubebuilder:default=Delete
	// +optional
	Deletion DeletionPolicy `json:"deletion,omitempty"`
}

// AdoptionPolicy is Adopt or Refuse.
//
// +kubebuilder:validation:Enum=Adopt;Refuse
type AdoptionPolicy string

// ConflictPolicy is Overwrite or Report.
//
// +kubebuilder:validation:Enum=Overwrite;Report
type ConflictPolicy string

// DeletionPolicy is Delete or Orphan.
//
// +kubebuilder:validation:Enum=Delete;Orphan
type DeletionPolicy string

// The policies.
const (
	Adopt  AdoptionPolicy = "Adopt"
	Refuse AdoptionPolicy = "Refuse"

	Overwrite ConflictPolicy = "Overwrite"
	Report    ConflictPolicy = "Report"

	Delete DeletionPolicy = "Delete"
	Orphan DeletionPolicy = "Orphan"
)

// MissionCommand is a program with arguments; no shell is involved, unless it is
// named as the program.
type MissionCommand struct {
	// trigger is run first; its exit status decides whether command runs. Empty: command always runs.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Trigger []string `json:"trigger,omitempty"`

	// runWhenTriggerSucceeds runs command when trigger succeeds, instead of when it fails.
	//
	// +optional
	RunWhenTriggerSucceeds bool `json:"runWhenTriggerSucceeds,omitempty"`

	// command is the program, with its full path, and its arguments.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +required
	Command []string `json:"command"`

	// reverseCommand undoes command when the Mission is deleted or the cluster is no longer selected.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	ReverseCommand []string `json:"reverseCommand,omitempty"`

	// timeout ends a run; the agent's configuration has a limit of its own. Background commands have none.
	//
	// +kubebuilder:default="10s"
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// background leaves command running until the Mission is deleted.
	//
	// +optional
	Background bool `json:"background,omitempty"`
}

// Placement selects clusters, by name or by label: a cluster that either of the
// two selects is selected. Without both, every cluster is.
type Placement struct {
	// clusters are names of clusters; with slashes (b/c), the end of the path from the root.
	//
	// +kubebuilder:validation:MaxItems=1000
	// +listType=map
	// +listMapKey=name
	// +optional
	Clusters []ClusterName `json:"clusters,omitempty"`

	// selector selects clusters by their labels; an empty one ({}) selects all.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ClusterName names a cluster.
type ClusterName struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +kubebuilder:validation:MaxLength=512
	// +required
	Name string `json:"name"`
}

// StateCheck makes the text of a Mission's state in a cluster.
//
// +kubebuilder:validation:XValidation:rule="[has(self.fieldPath), has(self.expression), has(self.command)].filter(x, x).size() == 1",message="set exactly one of fieldPath, expression and command"
type StateCheck struct {
	// object is the object to look at; without it, the first of the content.
	//
	// +optional
	Object *ObjectName `json:"object,omitempty"`

	// fieldPath is a JSONPath as kubectl knows it, for example {.status.readyReplicas}.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	FieldPath string `json:"fieldPath,omitempty"`

	// expression is CEL; it sees the object as "object" and makes the text. A Boolean makes the Mission ready or not.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Expression string `json:"expression,omitempty"`

	// command is a program whose output is the text, where the agent's configuration allows it.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Command []string `json:"command,omitempty"`
}

// ObjectName names an object in a cluster.
type ObjectName struct {
	// +kubebuilder:validation:MinLength=1
	// +required
	APIVersion string `json:"apiVersion"`
	// +kubebuilder:validation:MinLength=1
	// +required
	Kind string `json:"kind"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +required
	Name string `json:"name"`
}

// MissionStatus is what became of a Mission in all clusters below this one.
type MissionStatus struct {
	// observedGeneration is the generation of the Mission that this status is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// summary is the totals in words.
	//
	// +optional
	Summary string `json:"summary,omitempty"`

	// +optional
	Totals MissionTotals `json:"totals,omitempty"`

	// clusters has an entry for every cluster below this one that is heard of.
	//
	// +listType=map
	// +listMapKey=path
	// +optional
	Clusters []MissionState `json:"clusters,omitempty"`

	// local is what this cluster itself did with the Mission, where it came from a parent.
	//
	// +optional
	Local *MissionLocal `json:"local,omitempty"`

	// conditions: Ready is true when every selected cluster has the latest generation and is ready.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MissionTotals counts clusters.
type MissionTotals struct {
	// clusters that are heard of.
	Clusters int32 `json:"clusters"`
	// matched are those that the placement selects.
	Matched int32 `json:"matched"`
	// ready are those that have everything, and it works.
	Ready int32 `json:"ready"`
	// failed are those that could not apply it, or where it does not work.
	Failed int32 `json:"failed"`
	// unreachable are those that are not heard of any more.
	Unreachable int32 `json:"unreachable"`
}

// MissionState is how a Mission is doing in one cluster.
type MissionState struct {
	// path leads from this cluster to the one that the entry is about: b, b/c. In a report it leads from the cluster that
	// reports, and is empty for that one itself.
	//
	// +kubebuilder:validation:MaxLength=512
	Path string `json:"path"`

	// +optional
	Phase Phase `json:"phase,omitempty"`

	// state says it in words: the result of the stateCheck, "not match", "cluster unreachable", or what went wrong.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	State string `json:"state,omitempty"`

	// observedGeneration is the generation, of the Mission as a person wrote it, that the entry is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions: Applied (the objects are as the Mission wants them) and Ready (and they work).
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Phase is a Mission's state in one cluster in one word.
//
// +kubebuilder:validation:Enum=Pending;NotMatched;Waiting;Progressing;Ready;Failed;Deleting;Unreachable
type Phase string

// The phases.
const (
	PhasePending     Phase = "Pending"     // the cluster has not said anything about it yet
	PhaseNotMatched  Phase = "NotMatched"  // the placement does not select the cluster
	PhaseWaiting     Phase = "Waiting"     // for another Mission that it depends on
	PhaseProgressing Phase = "Progressing" // applied, not all objects are ready
	PhaseReady       Phase = "Ready"
	PhaseFailed      Phase = "Failed"
	PhaseDeleting    Phase = "Deleting"
	PhaseUnreachable Phase = "Unreachable" // the cluster is not heard of any more
)

// Words of MissionState.State that have a meaning of their own.
const (
	StateNotMatch    = "not match"
	StateUnreachable = "cluster unreachable"
	StatePending     = "no report yet"
)

// Types of conditions.
const (
	ConditionApplied = "Applied"
	ConditionReady   = "Ready"
)

// MissionLocal is what a cluster did with a Mission that came from its parent.
type MissionLocal struct {
	MissionState `json:",inline"`

	// objects are those that the Mission has, or may have, in this cluster: each is noted before it is applied, and
	// forgotten when it is gone.
	//
	// +listType=atomic
	// +optional
	Objects []ObjectName `json:"objects,omitempty"`

	// run is the command that the Mission runs, or has run, in this cluster: noted before it is run, and forgotten when it
	// is undone.
	//
	// +optional
	Run *MissionRun `json:"run,omitempty"`
}

// MissionRun is a command that was run, and how to undo it.
type MissionRun struct {
	// +listType=atomic
	Command []string `json:"command"`
	// +listType=atomic
	// +optional
	ReverseCommand []string `json:"reverseCommand,omitempty"`
	// +optional
	Background bool `json:"background,omitempty"`
	// timeout of reverseCommand.
	//
	// +optional
	Timeout metav1.Duration `json:"timeout,omitempty"`
	// done: it has been run, with exit status 0, or its trigger said that it need not be.
	//
	// +optional
	Done bool `json:"done,omitempty"`
}
