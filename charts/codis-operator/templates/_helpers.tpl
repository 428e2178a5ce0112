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

{{- /* Members of the chart's etcd: as many as there are, because they can't be changed; three where there is none yet. */ -}}
{{- define "codis-operator.etcd-replicas" -}}
{{- $there := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "codis-operator.etcd" .) -}}
{{- if .Values.etcd.replicas }}{{ int .Values.etcd.replicas -}}
{{- else if and $there (gt (int $there.spec.replicas) 0) }}{{ int $there.spec.replicas -}}
{{- else }}3{{ end -}}
{{- end }}

{{- /* The endpoints of the default coordinator, separated by commas. */ -}}
{{- define "codis-operator.coordinator" -}}
{{- if .Values.etcd.enabled -}}
{{- if .Values.coordinator.endpoints }}{{ fail "coordinator.endpoints needs etcd.enabled: false" }}{{ end -}}
{{- $name := include "codis-operator.etcd" . -}}
{{- $members := list -}}
{{- range $i := until (include "codis-operator.etcd-replicas" . | int) -}}
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
