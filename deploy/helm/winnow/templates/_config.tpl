{{/* The settings as TOML: scalars and lists of JSON are those of TOML, too, and numbers stay as they are written. */}}
{{- define "winnow.toml" -}}
{{- $config := deepCopy .Values.config -}}
{{- if ne .Values.bundle.source "image" -}}
{{- $_ := set $config "model" (merge (dict "bundle" (include "winnow.bundleFolder" .)) ($config.model | default dict)) -}}
{{- end -}}
{{- if $config.kafka.create_topics -}}
{{- $_ := set $config.kafka "create_partitions" (int .Values.topics.partitions) -}}
{{- end -}}
# Written by the chart from its value `config`.
{{- range $section, $settings := $config }}
{{- if $settings }}

[{{ $section }}]
{{- range $name, $value := $settings }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $name }} = {{ toRawJson $value }}
{{- end }}
{{- end }}
{{- range $name, $table := $settings }}
{{- if and (kindIs "map" $table) $table }}

[{{ $section }}.{{ $name }}]
{{- range $key, $property := $table }}
{{ toRawJson $key }} = {{ toRawJson $property }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "winnow.bundleFolder" -}}
{{- if eq .Values.bundle.source "initContainer" -}}
/opt/bundle
{{- else -}}
/opt/bundle/{{ .Values.bundle.path | trimAll "/" }}
{{- end -}}
{{- end -}}

{{/* Seconds: the drain budget, the 8 s in which the worker itself cuts a shutdown that hangs, and a margin. */}}
{{- define "winnow.gracePeriod" -}}
{{- add (divf .Values.config.shutdown.drain_ms 1000 | ceil | int) 8 (int .Values.shutdownMarginSeconds) -}}
{{- end -}}

{{/* The ports of the brokers, each once, as JSON. */}}
{{- define "winnow.brokerPorts" -}}
{{- $ports := list -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" (trim .) | trimPrefix ":" | default "9092" | int) -}}
{{- end -}}
{{- range .Values.networkPolicy.brokerPorts -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* The ports of other addresses that the settings name (registry, token endpoint, collector of traces), each once, as JSON. */}}
{{- define "winnow.addressPorts" -}}
{{- $addresses := splitList "," (dig "registry" "url" "" .Values.config) -}}
{{- $addresses = append $addresses (dig "registry" "properties" "bearer.auth.issuer.endpoint.url" "" .Values.config) -}}
{{- range $properties := list .Values.config.kafka.properties .Values.config.kafka.consumer_properties .Values.config.kafka.producer_properties -}}
{{- $addresses = append $addresses (get ($properties | default dict) "sasl.oauthbearer.token.endpoint.url") -}}
{{- end -}}
{{- range list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" -}}
{{- $addresses = append $addresses (get $.Values.env .) -}}
{{- end -}}
{{- $ports := list -}}
{{- range $addresses | compact -}}
{{- $port := regexFind ":[0-9]+$" (urlParse (trim .)).host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (hasPrefix "https" (trim .) | ternary "443" "80") | int) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* The ports that pods may reach beside DNS, as JSON. */}}
{{- define "winnow.openPorts" -}}
{{- concat (include "winnow.brokerPorts" . | fromJsonArray) (include "winnow.addressPorts" . | fromJsonArray) | uniq | toJson -}}
{{- end -}}

{{/* All topics that are written, each once, as JSON. */}}
{{- define "winnow.writtenTopics" -}}
{{- $kafka := .Values.config.kafka -}}
{{- concat (list $kafka.output_topic) (dig "routing" "topics" dict .Values.config | values | sortAlpha) (list $kafka.dead_letter_topic) | uniq | toJson -}}
{{- end -}}

{{/* The Secret and key behind a property's value as JSON; nothing where there is none: `dict "root" $ "value" "${env:NAME}"`. */}}
{{- define "winnow.secretOf" -}}
{{- $value := toString .value -}}
{{- $secrets := .root.Values.secrets -}}
{{- if regexMatch `^\$\{env:[^}]+\}$` $value -}}
{{- with get $secrets.env ($value | trimPrefix "${env:" | trimSuffix "}") -}}
{{- dict "name" .secret "key" .key | toJson -}}
{{- end -}}
{{- else if regexMatch `^(\$\{directory:)?/run/secrets/[^/:]+[/:][^/:}]+\}?$` $value -}}
{{- $parts := $value | trimPrefix "${directory:" | trimPrefix "/run/secrets/" | trimSuffix "}" | replace ":" "/" | splitList "/" -}}
{{- with get $secrets.files (first $parts) -}}
{{- dict "name" .secret "key" (last $parts) | toJson -}}
{{- end -}}
{{- end -}}
{{- end -}}
