{{/* What runs: image, port, role in the database, whether the shared volume is mounted, what may be written. */}}
{{- define "backend.components" -}}
{{- $local := not .Values.store.url -}}
proxy: {image: proxy, port: 8000, ready: /healthz, writable: [/data, /config]}
telemetry-service: {image: telemetry-service, port: 8001, ready: /readyz, role: telemetry, store: true, files: {{ $local }}}
video-ingest-service: {image: video-ingest-service, port: 8002, ready: /readyz, role: ingest, store: true, files: {{ $local }}}
export-service: {image: export-service, port: 8003, ready: /readyz, role: export, store: true, files: true}
export-worker: {image: export-service, role: export, store: true, files: true, hub: true, command: [python, -m, teleop_export.worker]}
{{- end }}

{{- define "backend.labels" -}}
app.kubernetes.io/name: lerobot-backend
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "backend.selector" -}}
app.kubernetes.io/name: lerobot-backend
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "backend.image" -}}
{{ .root.Values.image.registry }}lerobot-backend/{{ .image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* No rights beyond its own user's, nothing to write to but named volumes. */}}
{{- define "backend.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "backend.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- if eq .name "proxy" }}
    # Caddy's program asks for this right, even where it needs none.
    add: [NET_BIND_SERVICE]
{{- end }}
{{- end }}

{{- define "backend.inChart" -}}
{{- if not .Values.database.address }}yes{{ end }}
{{- end }}

{{- define "backend.databaseAddress" -}}
{{ .Values.database.address | default "postgres:5432/lerobot" }}
{{- end }}

{{- define "backend.databaseSecret" -}}
{{- if include "backend.inChart" . -}}
{{ .Release.Name }}-database
{{- else -}}
{{ required "database.existingSecret: an external database needs a Secret with its addresses; values.yaml lists the keys" .Values.database.existingSecret }}
{{- end }}
{{- end }}

{{- define "backend.filesClaim" -}}
{{ .Values.files.existingClaim | default (printf "%s-files" .Release.Name) }}
{{- end }}

{{/* By which names whoever has no token reaches the proxy. */}}
{{- define "backend.names" -}}
{{- $inside := printf "proxy proxy.%s proxy.%s.svc proxy.%s.svc.cluster.local" .Release.Namespace .Release.Namespace .Release.Namespace -}}
{{ join " " (compact (list $inside (ternary .Values.ingress.host "" .Values.ingress.enabled) .Values.names)) }}
{{- end }}

{{/* lab, or internet where the ingress has a certificate. */}}
{{- define "backend.exposure" -}}
{{- $public := and .Values.ingress.enabled (ne .Values.ingress.tlsSecret "") -}}
{{- $exposure := .Values.exposure | default (ternary "internet" "lab" $public) -}}
{{- if eq $exposure "internet" -}}
{{- if .Values.trustNetwork -}}
{{- fail "trustNetwork lets everybody in, which on the internet is everybody; set trustNetwork=false, or, for an ingress that only your network reaches, exposure=lab" -}}
{{- end -}}
{{- if eq .Values.proxies "127.0.0.1/32" -}}
{{- fail "proxies: name the addresses or networks that the ingress controller connects from; nobody is answered who has come without HTTPS, and only the controller knows who has" -}}
{{- end -}}
{{- end -}}
{{ $exposure }}
{{- end }}
