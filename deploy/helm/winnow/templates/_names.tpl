{{/* Names and labels. 52 characters leave room for what controllers append. */}}
{{- define "winnow.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "winnow.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "winnow.workerSelector" -}}
{{ include "winnow.selector" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "winnow.labels" -}}
{{ include "winnow.labelsAnd" (dict "root" . "more" dict) }}
{{- end -}}

{{/* With labels of one object, which go before those of all: `dict "root" $ "more" LABELS`. */}}
{{- define "winnow.labelsAnd" -}}
{{- with .root -}}
{{ include "winnow.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- with merge (dict) .more .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "winnow.metadata" -}}
{{ include "winnow.metadataAnd" (dict "root" . "more" dict) }}
{{- end -}}

{{- define "winnow.metadataAnd" -}}
name: {{ include "winnow.fullname" .root | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "winnow.labelsAnd" . | nindent 2 }}
{{- end -}}

{{- define "winnow.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "winnow.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "winnow.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}
