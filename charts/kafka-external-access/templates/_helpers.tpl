{{- define "kea.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Room for a suffix of the longest name made from it. */ -}}
{{- define "kea.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "kea.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "kea.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Names of objects without a namespace: two releases of one name in two namespaces must not share them. */ -}}
{{- define "kea.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "kea.fullname" .) }}
{{- end }}

{{- define "kea.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kea.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kea.labels" -}}
{{ include "kea.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kea.serviceAccount" -}}
{{- default (ternary (include "kea.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "kea.image" -}}
{{- with .Values.image -}}
{{- $name := ternary .repository (printf "%s/%s" .registry .repository) (empty .registry) -}}
{{- if .digest }}{{ $name }}@{{ .digest }}{{ else }}{{ $name }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- /* The namespaces that are served, as JSON; none means all. */ -}}
{{- define "kea.namespaces" -}}
{{- if eq .Values.watch.scope "Cluster" -}}[]
{{- else if eq .Values.watch.scope "ReleaseNamespace" -}}{{ list .Release.Namespace | toJson }}
{{- else -}}{{ .Values.watch.namespaces | uniq | sortAlpha | toJson }}
{{- end }}
{{- end }}

{{- /* Rights in each namespace that is served. Brokers are restarted by the patch, the evictions and the written ConfigMaps. */ -}}
{{- define "kea.rules" -}}
- apiGroups: [kafkaaccess.dev]
  resources: [kafkaexternalaccesses]
  verbs: [get, list, watch, patch]
- apiGroups: [kafkaaccess.dev]
  resources: [kafkaexternalaccesses/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch{{ if .Values.rbac.restarts }}, patch{{ end }}]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
{{- if .Values.rbac.restarts }}
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get{{ if .Values.rbac.restarts }}, create, update, delete{{ end }}]
# By name only: what objects refer to. It is marked with a finalizer while it is in use.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- /* Rights to classes, which are of no namespace, and to the labels by which they select namespaces. */ -}}
{{- define "kea.classRules" -}}
- apiGroups: [kafkaaccess.dev]
  resources: [kafkaexternalaccessclasses]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}

{{- /* Rights to read the brokers' byte counters from kubelets. */ -}}
{{- define "kea.kubeletRules" -}}
- apiGroups: [""]
  resources: [nodes/proxy]
  verbs: [get]
{{- end }}

{{- /* Rights in the release's namespace. */ -}}
{{- define "kea.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "kea.fullname" . }}]
  verbs: [get, list, watch, update]
{{- end }}

{{- /* The right to learn the cluster's identity. */ -}}
{{- define "kea.clusterIdRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
{{- end }}

{{- define "kea.subjects" -}}
- kind: ServiceAccount
  name: {{ include "kea.serviceAccount" . }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{- /* "yes" when an object of Prometheus operator is to be rendered. Arguments: root, section of the values, kind. */ -}}
{{- define "kea.monitoring" -}}
{{- $served := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if .section.enabled -}}
{{- if or $served (eq .section.renderMode "alwaysRender") -}}yes
{{- else if eq .section.renderMode "failIfMissing" -}}
{{- fail (printf "%s is enabled and its kind is not installed (monitoring.coreos.com/v1); renderMode is failIfMissing" .kind) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What no schema can say. */ -}}
{{- define "kea.validate" -}}
{{- if and (eq .Values.watch.scope "ReleaseNamespace") (not .Values.clusterId) -}}
{{- fail "clusterId must be given with watch.scope=ReleaseNamespace: an identity of this cluster among those that share the cloud project, for example the output of: kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "serviceMonitor and podMonitor are both enabled: every metric would be read twice" }}
{{- end }}
{{- if and (not .Values.prices.currency) (or .Values.prices.addressHour .Values.prices.mbpsHour .Values.prices.gb) -}}
{{- fail "prices are given without prices.currency" }}
{{- end }}
{{- if and .Values.hosts.enabled (eq (int .Values.hosts.port) (int .Values.httpPort)) -}}
{{- fail "hosts.port and httpPort are the same port" }}
{{- end }}
{{- end }}
