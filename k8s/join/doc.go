// Package join lets a cluster into a tree, and keeps its certificate fresh.
//
//	administrator of the parent           cluster that joins
//	Invite: a token for one name  ──────▶ Join: a key, a signing request with that name
//	agent:  Judge approves or denies ◀──
//	parent's API server signs     ──────▶ Join: certificate and kubeconfig
//	                                      Renew: the next one, in time
//
// The token may do nothing but ask for the one certificate. The private key never
// leaves the cluster that made it. Only the certificate says who a cluster is: the
// user sluice:cluster:NAME, in the group sluice:clusters.
//
// Functions here block until they are done or their context is, and may be called
// from any goroutine.
package join

import "time"

// NamespaceInvitations holds a ServiceAccount for every invitation that is open.
// Whoever is one of them may ask for a certificate.
const NamespaceInvitations = "sluice-invitations"

// Annotations of an invitation's ServiceAccount, and of the EdgeCluster that it made.
const (
	AnnotationCluster    = "sluice.dev/cluster"    // ServiceAccount: the name that it is for
	AnnotationExpires    = "sluice.dev/expires"    // ServiceAccount: RFC 3339
	AnnotationAgain      = "sluice.dev/again"      // ServiceAccount: the cluster may have joined before
	AnnotationInvitation = "sluice.dev/invitation" // EdgeCluster: UID of the ServiceAccount that it joined with
)

// Times.
const (
	// MinTTL is the shortest life that API servers give a token.
	MinTTL = 10 * time.Minute
	// MaxTTL keeps tokens from being forgotten somewhere.
	MaxTTL = 24 * time.Hour
	// CertificateLife is asked for; the parent's API server may grant less.
	CertificateLife = 30 * 24 * time.Hour
)
