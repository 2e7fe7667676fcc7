// Package standalone is what a site without Kubernetes has in place of an API
// server: the objects that came from the parent, in a folder, behind as much of the
// Kubernetes API as Sluice's own programs speak (get, list, watch, create, update,
// patch, server-side apply, delete; finalizers, generations, status subresources,
// preconditions). So the agent of a machine is the agent of a cluster, and what it
// learns works at both.
//
//	site, err := standalone.Open(standalone.Options{Dir: "/var/lib/sluice/agent", Logger: logger})
//	defer site.Close()
//	agent.New(agent.Options{Standalone: site, ...})
//
// It is no API server for others: there is no port, no access control and no way to
// define kinds. It holds a few kinds, and their schemas are those of the manifests.
// The rules of the schemas that are written in CEL are not asked: what a rule would
// refuse, the gateway refuses (its configuration is checked as a whole), or the
// parent has refused already.
//
// Every object is a file, written whole under another name, synced, and renamed,
// before anybody sees the object: whatever moment the process is killed at, each
// file is the old one or the new one. A file that is damaged all the same is
// refused by name and set aside, see Refused; the parent's word replaces it.
//
// A Site belongs to one process (the folder is locked), and may be used from any
// goroutine. Objects in it are never changed, only replaced.
package standalone
