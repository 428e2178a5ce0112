{{- define "codis-operator.name" -}}
{{- if contains "codis-operator" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-codis-operator{{ end -}}
{{- end }}

{{- define "codis-operator.labels" -}}
{{ include "codis-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "codis-operator.selector" -}}
app.kubernetes.io/name: codis-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "codis-operator.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "codis-operator.etcd" -}}
{{ include "codis-operator.name" . }}-etcd
{{- end }}

{{- /* The endpoints of the default coordinator, separated by commas. */ -}}
{{- define "codis-operator.coordinator" -}}
{{- if .Values.etcd.enabled -}}
{{- if .Values.coordinator.endpoints }}{{ fail "coordinator.endpoints needs etcd.enabled: false" }}{{ end -}}
{{- $name := include "codis-operator.etcd" . -}}
{{- $members := list -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $members = append $members (printf "http://%s-%d.%s.%s.svc:2379" $name $i $name $.Release.Namespace) -}}
{{- end -}}
{{- join "," $members -}}
{{- else -}}
{{- join "," .Values.coordinator.endpoints -}}
{{- end -}}
{{- end }}

{{- define "codis-operator.keep" -}}
{{- if . }}
helm.sh/resource-policy: keep
{{- end }}
{{- end }}
