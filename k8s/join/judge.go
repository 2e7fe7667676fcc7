package join

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Case is a signing request, with what its judge has to know.
type Case struct {
	Request *certificatesv1.CertificateSigningRequest
	// Invitation is the ServiceAccount that asks, nil if it is somebody else.
	Invitation *corev1.ServiceAccount
	// Cluster is the EdgeCluster of the name that is asked for, nil if there is none.
	Cluster *v1alpha1.EdgeCluster
}

// errNotOurs: the request is none of a cluster's certificate.
var errNotOurs = errors.New("not a cluster's")

// Asks returns the name of the cluster that a signing request is for; false when it
// is not for a cluster's identity, and somebody else's to judge.
func Asks(csr *certificatesv1.CertificateSigningRequest) (name string, ours bool) {
	name, _, err := parse(csr)
	return name, !errors.Is(err, errNotOurs)
}

// parse returns errNotOurs for a request that is none of a cluster's, another error
// for one that pretends to be.
func parse(csr *certificatesv1.CertificateSigningRequest) (string, *x509.CertificateRequest, error) {
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return "", nil, errNotOurs
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return "", nil, errNotOurs
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", nil, errNotOurs
	}
	name, named := clusterOf(request.Subject.CommonName)
	if !named && !slices.Contains(request.Subject.Organization, v1alpha1.GroupClusters) {
		return "", nil, errNotOurs
	}
	if !named {
		return "", nil, fmt.Errorf("the group %s is for clusters: the common name has to be %sNAME", v1alpha1.GroupClusters, v1alpha1.UserPrefix)
	}
	return name, request, CheckName(name)
}

// Judge decides about a request for a cluster's identity: nil to approve it, or the
// reason to deny it, which the other side gets to read.
func Judge(c Case) error {
	name, request, err := parse(c.Request)
	if err != nil {
		return err
	}
	if !slices.Equal(request.Subject.Organization, []string{v1alpha1.GroupClusters}) {
		return fmt.Errorf("a cluster is in the group %s, and in no other", v1alpha1.GroupClusters)
	}
	if len(request.DNSNames)+len(request.IPAddresses)+len(request.EmailAddresses)+len(request.URIs) > 0 {
		return errors.New("a cluster's certificate has no other names")
	}
	if !slices.Equal(c.Request.Spec.Usages, []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}) {
		return errors.New("a cluster's certificate is for client auth, and nothing else")
	}
	if c.Cluster != nil && c.Cluster.DeletionTimestamp != nil {
		return fmt.Errorf("cluster %s is being removed", name)
	}
	if c.Request.Spec.Username == v1alpha1.ClusterUser(name) && slices.Contains(c.Request.Spec.Groups, v1alpha1.GroupClusters) {
		if c.Cluster == nil {
			return fmt.Errorf("cluster %s has been removed", name)
		}
		return nil // its next certificate
	}
	if c.Invitation == nil {
		return fmt.Errorf("%s has no invitation", c.Request.Spec.Username)
	}
	if invited := c.Invitation.Annotations[AnnotationCluster]; invited != name {
		return fmt.Errorf("the invitation is for %q, not for %q", invited, name)
	}
	if c.Cluster != nil && c.Cluster.Annotations[AnnotationInvitation] != string(c.Invitation.UID) && c.Invitation.Annotations[AnnotationAgain] == "" {
		return errJoined(name)
	}
	return nil
}

// InvitationOf returns the name of the ServiceAccount that a user name stands for, if
// it is an invitation's.
func InvitationOf(username string) (string, bool) {
	return strings.CutPrefix(username, "system:serviceaccount:"+NamespaceInvitations+":")
}

func clusterOf(commonName string) (string, bool) {
	return strings.CutPrefix(commonName, v1alpha1.UserPrefix)
}
