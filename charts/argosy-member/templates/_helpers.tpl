{{- define "argosy-member.labels" -}}
app.kubernetes.io/name: argosy-member
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The Secret with the way to the control cluster, as `kubectl argosy join --pull` makes it. */}}
{{- define "argosy-member.control" -}}
argosy-control-{{ .Values.agent.cluster }}
{{- end }}

{{/* Of what belongs to the cluster: one for each account, so that several control clusters can share this one. */}}
{{- define "argosy-member.role" -}}
argosy-member:{{ .Release.Namespace }}:{{ .Values.serviceAccount.name }}
{{- end }}
