package kubetest

import (
	"encoding/base64"
	"text/template"
)

// kubeconfig names no other files, so that it can be copied.
var kubeconfig = template.Must(template.New("kubeconfig").Funcs(template.FuncMap{
	"base64": base64.StdEncoding.EncodeToString,
}).Parse(`apiVersion: v1
kind: Config
current-context: "{{.Cluster}}"
clusters:
- name: "{{.Cluster}}"
  cluster:
    server: "{{.Server}}"
    certificate-authority-data: {{base64 .CA}}
users:
- name: "{{.User}}"
  user:
    client-certificate-data: {{base64 .Certificate}}
    client-key-data: {{base64 .Key}}
contexts:
- name: "{{.Cluster}}"
  context:
    cluster: "{{.Cluster}}"
    user: "{{.User}}"
`))
