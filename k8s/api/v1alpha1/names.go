package v1alpha1

// Labels, annotations and finalizers that Sluice puts on objects.
const (
	// LabelMission is on every object that a Mission brought into a cluster; the value is the Mission's name.
	LabelMission = "sluice.dev/mission"

	// LabelMirrored is on every object that came from the parent. The agent owns those, and deletes them when the
	// parent has them no more; objects without it were made in this cluster and are never touched.
	LabelMirrored = "sluice.dev/mirrored"

	// LabelCluster is on the namespace of a child at its parent, and on Gateways that were made at or below a child; the
	// value is the child's name.
	LabelCluster = "sluice.dev/cluster"

	// AnnotationGeneration is on mirrored objects: metadata.generation where the object was written by a person, any
	// number of levels up. Status refers to this one.
	AnnotationGeneration = "sluice.dev/generation"

	// AnnotationCreated is on copies of network objects: when the object was made, where that was. Of two that cannot both
	// be, every cluster so finds the same one older.
	AnnotationCreated = "sluice.dev/created"

	// FinalizerContent keeps a mirrored Mission until what it brought into this cluster is gone.
	FinalizerContent = "sluice.dev/content"

	// FinalizerChild keeps an EdgeCluster until the child has lost its permissions.
	FinalizerChild = "sluice.dev/child"
)

// Labels that every cluster has for placement, beside those of its agent's configuration.
const (
	LabelHostname = "kubernetes.io/hostname"
	LabelDistro   = "sluice.dev/distro"
)

// NamespacePrefix and the name of a child make the namespace in which the child
// writes its reports at its parent.
const NamespacePrefix = "sluice-cluster-"

// A child is known to its parent's API server as a user, in a group of all children.
const (
	UserPrefix    = "sluice:cluster:"
	GroupClusters = "sluice:clusters"
)

// ClusterUser is the user name of the child of that name.
func ClusterUser(child string) string { return UserPrefix + child }

// ClusterNamespace is where the child of that name writes its reports.
func ClusterNamespace(child string) string { return NamespacePrefix + child }

// SystemNamespace holds what belongs to Sluice itself in a cluster.
const SystemNamespace = "sluice-system"
