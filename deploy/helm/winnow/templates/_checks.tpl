{{/* What values of several places have no meaning together, each with its sentence. */}}
{{- define "winnow.checks" -}}
{{- include "winnow.checkShutdown" . -}}
{{- include "winnow.checkNames" . -}}
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
{{- if not (dig "serving" "enabled" true $config) -}}
{{- fail "config.serving.enabled cannot be false: probes ask the port. Leave it out." -}}
{{- end -}}
{{- if gt (dig "model" "lanes" 0 $config | int) (int .Values.resources.cpu) -}}
{{- fail (printf "config.model.lanes (%v) is above resources.cpu (%v): lanes would wait for each other. Leave it out: the worker runs as many lanes as it has cores." $config.model.lanes .Values.resources.cpu) -}}
{{- end -}}
{{- end -}}

{{/* Also refused by the API server, but with less to go by. */}}
{{- define "winnow.checkRollout" -}}
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

{{- define "winnow.checkBundle" -}}
{{- $bundle := .Values.bundle -}}
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
{{- $tables := dict "config.registry.properties" (dig "registry" "properties" dict .Values.config) -}}
{{- range list "properties" "consumer_properties" "producer_properties" -}}
{{- $_ := set $tables (printf "config.kafka.%s" .) (get $.Values.config.kafka . | default dict) -}}
{{- end -}}
{{- range $table, $properties := $tables -}}
{{- range $name, $value := $properties -}}
{{- $value = toString $value -}}
{{- if and (regexMatch `(?i)(password|passphrase|secret|user\.?info|jaas\.config|key\.pem|oauthbearer\.config|sasl\.oauthbearer\.assertion\.private\.key\.pem)$` $name) (not (hasPrefix "${" $value)) -}}
{{- fail (printf "%s.%s holds a secret in the values. Put ${env:NAME} or ${directory:/run/secrets/NAME:KEY} there, and the Secret's name under secrets." $table $name) -}}
{{- end -}}
{{- range regexFindAll `\$\{env:[^}]+\}` $value -1 -}}
{{- $variable := . | trimPrefix "${env:" | trimSuffix "}" -}}
{{- if not (or (hasKey $.Values.secrets.env $variable) (hasKey $.Values.env $variable)) -}}
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
{{- if hasKey $kafka "create_partitions" -}}
{{- fail "config.kafka.create_partitions follows from topics.partitions. Leave it out." -}}
{{- end -}}
{{- if .Values.topics.strimzi.enabled -}}
{{- if not .Values.topics.strimzi.cluster -}}
{{- fail "topics.strimzi.enabled needs topics.strimzi.cluster, the name of the Kafka object." -}}
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
{{- $_ := include "winnow.offsetReset" . -}}
{{- end -}}
{{- end -}}
