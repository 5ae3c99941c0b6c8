{{/* Objects of the cluster have fixed names: a second installation beside this one would put its own fence across the
other's syncer, so Helm's refusal to take over what another release owns is what is wanted. */}}

{{- define "argosy.labels" -}}
app.kubernetes.io/name: argosy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels that tell the pods of one component: (dict "root" $ "component" "webhook") */}}
{{- define "argosy.selector" -}}
app.kubernetes.io/name: argosy
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "argosy.image" -}}
{{ printf "%s/%s:%s" .root.Values.image.registry (get .root.Values.image .component) (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{- define "argosy.syncerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:argosy-syncer
{{- end }}

{{/* What the names of the accounts of syncers inside of their clusters begin with; the cluster's name follows. */}}
{{- define "argosy.agentUsers" -}}
system:serviceaccount:{{ .Release.Namespace }}:argosy-agent-
{{- end }}

{{/* CEL: whether who asks is one of those. */}}
{{- define "argosy.isAgent" -}}
request.userInfo.username.startsWith('{{ include "argosy.agentUsers" . }}')
{{- end }}

{{/* CEL: whether who asks is none of Argosy's syncers; in what those write, guard and fence have no say. */}}
{{- define "argosy.isNoSyncer" -}}
request.userInfo.username != '{{ include "argosy.syncerUser" . }}' && !{{ include "argosy.isAgent" . }}
{{- end }}

{{/* CEL variables: these fields of a workflow, or with "old" before the name those that it had; empty where there are none:
(list "labels" "oldLabels" "status") */}}
{{- define "argosy.variables" -}}
{{- range . }}
{{- $object := ternary "oldObject" "object" (hasPrefix "old" .) }}
{{- $field := trimPrefix "old" . | untitle }}
{{- if has $field (list "labels" "annotations") }}{{ $field = printf "metadata.%s" $field }}{{ end }}
{{- $path := printf "%s.%s" $object $field }}
- name: {{ . }}
  expression: "has({{ $path }}) && {{ $path }} != null ? {{ $path }} : {}"
{{- end }}
{{- end }}

{{/* Whom to ask when the webhook is silent. It ends up inside a CEL string in single quotes; the schema keeps quotes
and backslashes out of the URL's host, and this takes them out of the rest. */}}
{{- define "argosy.webhookWhere" -}}
{{- if .Values.webhook.url -}}
it is expected at {{ regexReplaceAll `['\\\\]` .Values.webhook.url "" }}
{{- else -}}
kubectl -n {{ .Release.Namespace }} get deployment argosy-webhook
{{- end -}}
{{- end }}

{{/* For whoever is refused what the guard would have seen to. Without quotes: it ends up in a CEL string, too. */}}
{{- define "argosy.guardHint" -}}
argo resume, retry and node set go by way of the webhook guard.argosy.dev: see that it runs ({{ include "argosy.webhookWhere" . }})
{{- end -}}

{{/* Where a path of the webhook answers: (dict "root" $ "path" "route"). No caBundle: the webhook makes its own CA and
writes it there. */}}
{{- define "argosy.webhookClient" -}}
{{- if .root.Values.webhook.url -}}
url: {{ printf "%s/%s" (trimSuffix "/" .root.Values.webhook.url) .path }}
{{- else -}}
service:
  namespace: {{ .root.Release.Namespace }}
  name: argosy-webhook
  port: 443
  path: /{{ .path }}
{{- end }}
{{- end }}

{{/* What all pods have in common, with what a component's values say of its own: (dict "root" $ "values" .Values.syncer) */}}
{{- define "argosy.pod" -}}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "argosy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "argosy.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: ARGOSY_LOG
  value: {{ .Values.logs.filter | quote }}
- name: ARGOSY_LOG_FORMAT
  value: {{ .Values.logs.format }}
{{- end }}

{{- define "argosy.probes" -}}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 3
{{- end }}

{{/* Annotations that let Prometheus' usual pod discovery find the metrics. */}}
{{- define "argosy.podAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "8080"
prometheus.io/path: /metrics
{{- end }}

{{/* Whether `helm uninstall` refuses; empty: it does not. Values that `helm upgrade --reuse-values` brings from before have
no word on it. */}}
{{- define "argosy.refusesUninstall" -}}
{{- if (.Values.uninstall | default (dict "refuse" true)).refuse }}true{{ end -}}
{{- end }}

{{/* Whether there are live logs; empty: there are none. Values that `helm upgrade --reuse-values` brings from before have no
word on it. */}}
{{- define "argosy.liveLogs" -}}
{{- if (.Values.liveLogs | default dict).enabled }}true{{ end -}}
{{- end }}

{{/* What decisions are made from: webhook and syncer both make them. */}}
{{- define "argosy.decisionRules" -}}
# Rules are annotations of namespaces and policies; chosen from are the clusters.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
- apiGroups: [argosy.dev]
  resources: [workloadclusters, placementpolicies]
  verbs: [list, watch]
# What was placed, and the templates that tell what a workflow asks for.
- apiGroups: [argoproj.io]
  resources: [workflows, workflowtemplates, clusterworkflowtemplates]
  verbs: [list, watch]
# KubeStellar's policies, where its CRDs are.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [bindingpolicies.control.kubestellar.io, customtransforms.control.kubestellar.io]
  verbs: [get]
- apiGroups: [control.kubestellar.io]
  resources: [bindingpolicies, customtransforms]
  verbs: [list, watch]
{{- end }}
