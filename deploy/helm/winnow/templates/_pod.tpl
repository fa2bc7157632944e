{{/* What the worker's container and the doctor's have in common. */}}
{{- define "winnow.container" -}}
image: {{ include "winnow.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "winnow.containerSecurity" . | nindent 2 }}
resources:
  {{- include "winnow.resources" . | nindent 2 }}
volumeMounts:
  - name: config
    mountPath: /etc/winnow
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- if ne .Values.bundle.source "image" }}
  - name: bundle
    mountPath: /opt/bundle
    readOnly: true
  {{- end }}
  {{- range $name, $_ := .Values.secrets.files }}
  - name: secret-{{ $name }}
    mountPath: /run/secrets/{{ $name }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The pod's name as the worker's. */}}
{{- define "winnow.names" -}}
{{- if and (eq .Values.workload "StatefulSet") .Values.statefulSet.staticMembership }}
- name: WINNOW_KAFKA__GROUP_INSTANCE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- else if eq .Values.config.kafka.delivery "exactly-once" }}
- name: WINNOW_KAFKA__INSTANCE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- end -}}

{{- define "winnow.environment" -}}
{{- range $name, $reference := .Values.secrets.env }}
- name: {{ quote $name }}
  valueFrom:
    secretKeyRef:
      name: {{ quote $reference.secret }}
      key: {{ quote $reference.key }}
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ quote $name }}
  value: {{ kindIs "string" $value | ternary $value (toRawJson $value) | quote }}
{{- end }}
{{- end -}}

{{- define "winnow.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "winnow.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The limit of CPUs is whole cores: the worker runs one lane a core of it. */}}
{{- define "winnow.resources" -}}
{{- with .Values.resources -}}
requests:
  cpu: {{ eq .profile "pinned" | ternary (int .cpu | toString) .burst.cpuRequest | quote }}
  memory: {{ .memory | quote }}
limits:
  cpu: {{ int .cpu | quote }}
  memory: {{ .memory | quote }}
{{- end -}}
{{- end -}}

{{- define "winnow.volumes" -}}
- name: config
  configMap:
    name: {{ include "winnow.fullname" . | quote }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if eq .Values.bundle.source "imageVolume" }}
- name: bundle
  image:
    reference: {{ .Values.bundle.reference | quote }}
    pullPolicy: {{ .Values.bundle.pullPolicy }}
{{- else if eq .Values.bundle.source "initContainer" }}
- name: bundle
  emptyDir: {}
{{- else if eq .Values.bundle.source "persistentVolumeClaim" }}
- name: bundle
  persistentVolumeClaim:
    claimName: {{ .Values.bundle.claim | quote }}
    readOnly: true
{{- end }}
{{- range $name, $reference := .Values.secrets.files }}
- name: secret-{{ $name }}
  secret:
    secretName: {{ quote $reference.secret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "winnow.initContainers" -}}
{{- if eq .Values.bundle.source "initContainer" }}
initContainers:
  - name: bundle
    image: {{ .Values.bundle.reference | quote }}
    imagePullPolicy: {{ .Values.bundle.pullPolicy }}
    command:
      {{- toYaml .Values.bundle.command | nindent 6 }}
    securityContext:
      {{- include "winnow.containerSecurity" . | nindent 6 }}
    resources:
      {{- include "winnow.resources" . | nindent 6 }}
    volumeMounts:
      - name: bundle
        mountPath: /opt/bundle
{{- end }}
{{- end -}}

{{/* The pod's own settings, those of scheduling apart. */}}
{{- define "winnow.podBasics" -}}
serviceAccountName: {{ include "winnow.serviceAccount" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "winnow.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "winnow.spread" -}}
{{- if .Values.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "winnow.workerSelector" $ | nindent 8 }}
    {{- if eq $.Values.workload "Deployment" }}
    matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "winnow.probes" -}}
# Until the bundle is loaded and the loop has turned once.
startupProbe:
  httpGet:
    path: /startupz
    port: http
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: {{ int .Values.probes.startupSeconds }}
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: {{ int .Values.probes.readinessPeriodSeconds }}
  timeoutSeconds: 5
# The loop's heartbeat alone, which fails after 30 s without a turn: an outage of the brokers restarts no pod.
livenessProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{- define "winnow.podTemplate" -}}
metadata:
  labels:
    {{- include "winnow.workerSelector" . | nindent 4 }}
    {{- with merge (dict) .Values.podLabels .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A change of the settings is a rollout.
    checksum/config: {{ include "winnow.toml" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "winnow.podBasics" . | nindent 2 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ quote . }}
  {{- end }}
  {{- with include "winnow.spread" . | trim }}
  {{- nindent 2 . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "winnow.gracePeriod" . }}
  {{- with include "winnow.initContainers" . | trim }}
  {{- nindent 2 . }}
  {{- end }}
  containers:
    - name: winnow
      args: [run, --config, /etc/winnow/winnow.toml]
      ports:
        - name: http
          containerPort: {{ int .Values.config.serving.port }}
      {{- include "winnow.probes" . | nindent 6 }}
      {{- include "winnow.container" . | nindent 6 }}
      {{- with printf "%s\n%s" (include "winnow.names" .) (include "winnow.environment" . | trim) | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
  volumes:
    {{- include "winnow.volumes" . | nindent 4 }}
{{- end -}}
