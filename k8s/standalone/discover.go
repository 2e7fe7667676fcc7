package standalone

import (
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// Version is what a Site says as the version of its API server.
const Version = "standalone"

// discover answers what a client asks before it knows any kinds.
func (s *Site) discover(w http.ResponseWriter, r *http.Request) bool {
	path := strings.Trim(r.URL.Path, "/")
	switch path {
	case "api":
		answer(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
		return true
	case "apis":
		groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}}
		for _, gv := range s.groups() {
			if gv.Group != "" {
				groups.Groups = append(groups.Groups, group(gv))
			}
		}
		answer(w, http.StatusOK, groups)
		return true
	case "version":
		answer(w, http.StatusOK, version.Info{GitVersion: Version})
		return true
	}
	for _, gv := range s.groups() {
		switch path {
		case "api/" + gv.Version, "apis/" + gv.String():
			if (gv.Group == "") == strings.HasPrefix(path, "api/") {
				answer(w, http.StatusOK, s.resources(gv))
				return true
			}
		case "apis/" + gv.Group:
			answer(w, http.StatusOK, group(gv))
			return true
		}
	}
	return false
}

func group(gv schema.GroupVersion) metav1.APIGroup {
	v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroup"},
		Name:     gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
	}
}

func (s *Site) groups() (all []schema.GroupVersion) {
	for _, k := range s.kinds {
		if !slices.Contains(all, k.GroupVersion()) {
			all = append(all, k.GroupVersion())
		}
	}
	return all
}

func (s *Site) resources(gv schema.GroupVersion) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: gv.String()}
	for _, k := range s.kinds {
		if k.GroupVersion() != gv {
			continue
		}
		one := metav1.APIResource{
			Name: k.plural, SingularName: strings.ToLower(k.Kind), Namespaced: k.namespaced, Kind: k.Kind,
			Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"},
		}
		list.APIResources = append(list.APIResources, one)
		if k.status {
			one.Name, one.SingularName, one.Verbs = k.plural+"/status", "", metav1.Verbs{"get", "patch", "update"}
			list.APIResources = append(list.APIResources, one)
		}
	}
	return list
}
