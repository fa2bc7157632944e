{{/* What values of several places have no meaning together, each with its sentence. */}}
{{- define "winnow.checks" -}}
{{- include "winnow.checkShutdown" . -}}
{{- include "winnow.checkStart" . -}}
{{- include "winnow.checkResources" . -}}
{{- include "winnow.checkNames" . -}}
{{- include "winnow.checkEnvironment" . -}}
{{- include "winnow.checkRollout" . -}}
{{- include "winnow.checkBundle" . -}}
{{- include "winnow.checkSecrets" . -}}
{{- include "winnow.checkTopics" . -}}
{{- include "winnow.checkScaling" . -}}
{{- end -}}

{{- define "winnow.checkShutdown" -}}
{{- $config := .Values.config -}}
{{- if ge (int64 $config.batching.max_delay_ms) (int64 $config.shutdown.drain_ms) -}}
{{- fail (printf "config.batching.max_delay_ms (%v) must be below config.shutdown.drain_ms (%v): a message may not wait for its batch as long as a whole shutdown takes." $config.batching.max_delay_ms $config.shutdown.drain_ms) -}}
{{- end -}}
{{- $properties := merge (dict) $config.kafka.consumer_properties ($config.kafka.properties | default dict) -}}
{{- $interval := get $properties "max.poll.interval.ms" | default 300000 | int64 -}}
{{- range $setting := list "drain_ms" "revoke_ms" -}}
{{- if ge (get $config.shutdown $setting | default 0 | int64) $interval -}}
{{- fail (printf "config.shutdown.%s must be below max.poll.interval.ms, which is %d: the group would throw the pod out while it drains." $setting $interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What probes could not get past. */}}
{{- define "winnow.checkStart" -}}
{{- $config := .Values.config -}}
{{- if not (dig "serving" "enabled" true $config) -}}
{{- fail "config.serving.enabled cannot be false: probes ask the port. Leave it out." -}}
{{- end -}}
{{- if not (has (dig "serving" "host" "0.0.0.0" $config) (list "0.0.0.0" "::")) -}}
{{- fail (printf "config.serving.host (%s) must be 0.0.0.0 or ::, for probes ask the pod's address. Leave it out." $config.serving.host) -}}
{{- end -}}
{{- if ge (int64 $config.kafka.connect_timeout_ms) (mul 1000 (int64 .Values.probes.startupSeconds)) -}}
{{- fail (printf "config.kafka.connect_timeout_ms (%v) must be below probes.startupSeconds (%v s): else the probe ends a worker before it can say that no broker answers." $config.kafka.connect_timeout_ms .Values.probes.startupSeconds) -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkResources" -}}
{{- $config := .Values.config -}}
{{- if gt (dig "model" "lanes" 0 $config | int) (int .Values.resources.cpu) -}}
{{- fail (printf "config.model.lanes (%v) is above resources.cpu (%v): lanes would wait for each other. Leave it out: the worker runs as many lanes as it has cores." $config.model.lanes .Values.resources.cpu) -}}
{{- end -}}
{{- end -}}

{{/* Also refused by the API server, but with less to go by, or only once pods are made. */}}
{{- define "winnow.checkRollout" -}}
{{- $request := .Values.resources.burst.cpuRequest -}}
{{- $cores := hasSuffix "m" $request | ternary (divf (trimSuffix "m" $request) 1000) (float64 $request) -}}
{{- if and (eq .Values.resources.profile "burst") (gt $cores (float64 .Values.resources.cpu)) -}}
{{- fail (printf "resources.burst.cpuRequest (%s) is above resources.cpu (%v), the limit: no pod could be made." $request .Values.resources.cpu) -}}
{{- end -}}
{{- if and (has (toString .Values.deployment.maxSurge) (list "0" "0%")) (has (toString .Values.deployment.maxUnavailable) (list "0" "0%")) -}}
{{- fail "deployment.maxSurge and deployment.maxUnavailable are both 0: a rollout could not begin." -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkNames" -}}
{{- range list "group_instance_id" "instance_id" -}}
{{- if get $.Values.config.kafka . -}}
{{- fail (printf "config.kafka.%s would be the same in every pod, and pods with one name stop each other. Leave it out: with workload: StatefulSet each pod has its own." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkEnvironment" -}}
{{- range $table := list "env" "secrets.env" -}}
{{- range $name, $_ := eq $table "env" | ternary $.Values.env $.Values.secrets.env -}}
{{- if hasPrefix "WINNOW_" $name -}}
{{- fail (printf "%s has %s, which would go before the settings of the ConfigMap. Set it under config, by its name in docs/configuration.md." $table $name) -}}
{{- end -}}
{{- if and (eq $table "env") (hasKey $.Values.secrets.env $name) -}}
{{- fail (printf "%s is in secrets.env and in env, and a pod could have one of them. Leave one out." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkBundle" -}}
{{- $bundle := .Values.bundle -}}
{{- range $name, $sources := dict "reference" (list "imageVolume" "initContainer") "command" (list "initContainer") "claim" (list "persistentVolumeClaim") -}}
{{- if and (get $bundle $name) (not (has $bundle.source $sources)) -}}
{{- fail (printf "bundle.%s means nothing with bundle.source: %s. Set bundle.source: %s, or leave it out." $name $bundle.source (join " or " $sources)) -}}
{{- end -}}
{{- end -}}
{{- if and (ne $bundle.source "image") (dig "model" "bundle" "" .Values.config) -}}
{{- fail (printf "config.model.bundle and bundle.source: %s both say where the bundle is. Leave config.model.bundle out." $bundle.source) -}}
{{- end -}}
{{- $needs := get (dict "imageVolume" (list "reference") "initContainer" (list "reference" "command") "persistentVolumeClaim" (list "claim")) $bundle.source -}}
{{- range $needs | default list -}}
{{- if not (get $bundle .) -}}
{{- fail (printf "bundle.source: %s needs bundle.%s." $bundle.source .) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $bundle.source "imageVolume") (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "bundle.source: imageVolume needs Kubernetes 1.33 or later, and this is %s. Take initContainer." .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}

{{/* No secret in the values, and no reference to one that the pod has not. */}}
{{- define "winnow.checkSecrets" -}}
{{- if contains "@" (dig "registry" "url" "" .Values.config) -}}
{{- fail "config.registry.url holds a login. Its place is basic.auth.user.info in config.registry.properties, as ${env:NAME}." -}}
{{- end -}}
{{- $tables := dict "config.registry.properties" (dig "registry" "properties" dict .Values.config) -}}
{{- range list "properties" "consumer_properties" "producer_properties" -}}
{{- $_ := set $tables (printf "config.kafka.%s" .) (get $.Values.config.kafka . | default dict) -}}
{{- end -}}
{{- range $table, $properties := $tables -}}
{{- range $name, $value := $properties -}}
{{- $value = toString $value -}}
{{- $secret := or (regexMatch `(?i)(password|passphrase|secret|token|credentials?|ssl_key|user\.?info|jaas\.config|key\.pem|oauthbearer\.config)$` $name) (regexMatch `://[^/\s]*@` $value) -}}
{{- if and $secret (not (regexMatch `^(\$\{[^}]+\})+$` $value)) -}}
{{- fail (printf "%s.%s holds a secret in the values. Put ${env:NAME} or ${directory:/run/secrets/NAME:KEY} there, and the Secret's name under secrets." $table $name) -}}
{{- end -}}
{{- range regexFindAll `\$\{env:[^}]+\}` $value -1 -}}
{{- $variable := . | trimPrefix "${env:" | trimSuffix "}" -}}
{{- if not (or (hasKey $.Values.secrets.env $variable) (and (not $secret) (hasKey $.Values.env $variable))) -}}
{{- fail (printf "%s.%s refers to ${env:%s}, but secrets.env has no %s." $table $name $variable $variable) -}}
{{- end -}}
{{- end -}}
{{- range regexFindAll `/run/secrets/[^/:}]+` $value -1 -}}
{{- $folder := . | trimPrefix "/run/secrets/" -}}
{{- if not (hasKey $.Values.secrets.files $folder) -}}
{{- fail (printf "%s.%s refers to /run/secrets/%s, but secrets.files has no %s." $table $name $folder $folder) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkTopics" -}}
{{- $kafka := .Values.config.kafka -}}
{{- if eq $kafka.output_topic $kafka.dead_letter_topic -}}
{{- fail (printf "config.kafka.output_topic and config.kafka.dead_letter_topic are both %s. Give them two names." $kafka.output_topic) -}}
{{- end -}}
{{- range $name := list "output_topic" "dead_letter_topic" -}}
{{- if has (get $kafka $name) $kafka.input_topics -}}
{{- fail (printf "config.kafka.%s %s is also an input topic: results would be read again." $name (get $kafka $name)) -}}
{{- end -}}
{{- end -}}
{{- range $section := list "input" "output" -}}
{{- $format := dig $section "format" "json" $.Values.config -}}
{{- if and (has $format (list "avro" "protobuf" "json-schema")) (not (dig "registry" "url" "" $.Values.config)) -}}
{{- fail (printf "config.%s.format: %s needs config.registry.url, the address of a schema registry." $section $format) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $kafka "create_partitions" -}}
{{- fail "config.kafka.create_partitions follows from topics.partitions. Leave it out." -}}
{{- end -}}
{{- if .Values.topics.strimzi.enabled -}}
{{- if not .Values.topics.strimzi.cluster -}}
{{- fail "topics.strimzi.enabled needs topics.strimzi.cluster, the name of the Kafka object." -}}
{{- end -}}
{{- with get (.Values.topics.strimzi.config | default dict) "min.insync.replicas" -}}
{{- if gt (int64 .) (int64 $.Values.topics.strimzi.replicas) -}}
{{- fail (printf "topics.strimzi.config.min.insync.replicas (%v) is above topics.strimzi.replicas (%v): nothing could be written." . $.Values.topics.strimzi.replicas) -}}
{{- end -}}
{{- end -}}
{{- if $kafka.create_topics -}}
{{- fail "topics.strimzi.enabled and config.kafka.create_topics both make the topics. Leave one of them out." -}}
{{- end -}}
{{- if .Values.topics.strimzi.inputs -}}
{{- include "winnow.checkNoPattern" (dict "root" . "what" "topics.strimzi.inputs" "mend" "Name the topics, or set topics.strimzi.inputs: false.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkNoPattern" -}}
{{- range .root.Values.config.kafka.input_topics -}}
{{- if hasPrefix "^" . -}}
{{- fail (printf "%s needs topics by name, and config.kafka.input_topics has the pattern %s. %s" $.what . $.mend) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.checkScaling" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if $scaling.enabled -}}
{{- include "winnow.checkNoPattern" (dict "root" . "what" "autoscaling.enabled" "mend" "KEDA looks at the lag of each.") -}}
{{- $most := $scaling.maxReplicas | default .Values.topics.partitions | int -}}
{{- if gt (int $scaling.minReplicas) $most -}}
{{- fail (printf "autoscaling.minReplicas (%v) is above the most replicas there may be (%v)." $scaling.minReplicas $most) -}}
{{- end -}}
{{- if hasKey (.Values.config.kafka.properties | default dict) "auto.offset.reset" -}}
{{- fail "config.kafka.properties has auto.offset.reset: set it in config.kafka.consumer_properties, where KEDA's is taken from." -}}
{{- end -}}
{{- range $table := list "consumer_properties" "producer_properties" -}}
{{- range $name, $_ := get $.Values.config.kafka $table | default dict -}}
{{- if regexMatch `^(security\.protocol|sasl\.|ssl\.)` $name -}}
{{- fail (printf "config.kafka.%s has %s: with autoscaling login and TLS belong into config.kafka.properties, where KEDA's are taken from." $table $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ge (get .Values.config.kafka "commit_interval_ms" | default 0 | int64) (mul 1000 (int64 $scaling.pollingInterval)) -}}
{{- fail (printf "config.kafka.commit_interval_ms (%v) must be below autoscaling.pollingInterval (%v s): KEDA goes by what is committed." .Values.config.kafka.commit_interval_ms $scaling.pollingInterval) -}}
{{- end -}}
{{- $_ := include "winnow.offsetReset" . -}}
{{- end -}}
{{- end -}}
