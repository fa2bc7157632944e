{{/* KEDA's word for where the consumer begins; librdkafka has several for each. */}}
{{- define "winnow.offsetReset" -}}
{{- $reset := get .Values.config.kafka.consumer_properties "auto.offset.reset" | toString -}}
{{- $words := dict "earliest" "earliest" "smallest" "earliest" "beginning" "earliest" "latest" "latest" "largest" "latest" "end" "latest" -}}
{{- get $words $reset | required (printf "autoscaling.enabled needs config.kafka.consumer_properties.auto.offset.reset to be earliest or latest, and it is %s." $reset) -}}
{{- end -}}

{{/* The parameters of KEDA's TriggerAuthentication with the Secrets behind them, as JSON: those that properties refer to. */}}
{{- define "winnow.triggerSecrets" -}}
{{- $properties := .Values.config.kafka.properties | default dict -}}
{{- $targets := list -}}
{{- if and (include "winnow.mechanism" . | eq "oauthbearer") (not .Values.autoscaling.authenticationRef) -}}
{{- fail "autoscaling with OAUTHBEARER needs autoscaling.authenticationRef: KEDA takes the token endpoint from a TriggerAuthentication alone." -}}
{{- end -}}
{{- $names := dict "sasl.username" "username" "sasl.password" "password" "ssl.ca.location" "ca" "ssl.ca.pem" "ca" "ssl.certificate.location" "cert" "ssl.certificate.pem" "cert" "ssl.key.location" "key" "ssl.key.pem" "key" "ssl.key.password" "keyPassword" -}}
{{- range $property, $parameter := $names -}}
{{- with get $properties $property -}}
{{- $secret := include "winnow.secretOf" (dict "root" $ "value" .) -}}
{{- if not $secret -}}
{{- fail (printf "autoscaling: KEDA needs config.kafka.properties.%s from a Secret. Put ${env:NAME} (secrets.env) or /run/secrets/NAME/KEY (secrets.files) there, or name a TriggerAuthentication of your own in autoscaling.authenticationRef." $property) -}}
{{- end -}}
{{- $targets = append $targets (merge (dict "parameter" $parameter) (fromJson $secret)) -}}
{{- end -}}
{{- end -}}
{{- $targets | toJson -}}
{{- end -}}

{{- define "winnow.mechanism" -}}
{{- $properties := .Values.config.kafka.properties | default dict -}}
{{- if get $properties "security.protocol" | toString | upper | hasPrefix "SASL" -}}
{{- $mechanism := get $properties "sasl.mechanism" | default (get $properties "sasl.mechanisms") | toString | upper -}}
{{- get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512" "OAUTHBEARER" "oauthbearer") $mechanism | required (printf "autoscaling: KEDA has no mechanism for sasl.mechanism %s." $mechanism) -}}
{{- else -}}
none
{{- end -}}
{{- end -}}

{{/* The metadata of the trigger but for the topic; texts, all of them. */}}
{{- define "winnow.trigger" -}}
{{- $kafka := .Values.config.kafka -}}
{{- $scaling := .Values.autoscaling -}}
{{- $threshold := $scaling.activationLagThreshold -}}
{{- if kindIs "invalid" $threshold -}}
{{- $threshold = eq $kafka.delivery "exactly-once" | ternary .Values.topics.partitions 0 -}}
{{- end -}}
bootstrapServers: {{ $kafka.bootstrap_servers | nospace | quote }}
consumerGroup: {{ $kafka.group_id | quote }}
version: {{ $scaling.kafkaVersion | quote }}
lagThreshold: {{ $scaling.lagThreshold | int64 | quote }}
activationLagThreshold: {{ $threshold | int64 | quote }}
offsetResetPolicy: {{ include "winnow.offsetReset" . | quote }}
limitToPartitionsWithLag: "true"
excludePersistentLag: "true"
{{- if get ($kafka.properties | default dict) "security.protocol" | toString | upper | hasSuffix "SSL" }}
tls: "enable"
{{- end }}
{{- with include "winnow.mechanism" . }}
{{- if ne . "none" }}
sasl: {{ quote . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "winnow.triggerAuthentication" -}}
{{- if .Values.autoscaling.authenticationRef -}}
{{ .Values.autoscaling.authenticationRef }}
{{- else if ne (include "winnow.triggerSecrets" .) "[]" -}}
{{ include "winnow.fullname" . }}
{{- end -}}
{{- end -}}
