"""What export-service counts."""

from prometheus_client import Counter, Gauge, Histogram
from teleop_runtime.metrics import REGISTRY

EXPORTS = Counter("exports_total", "Exports that ended, by how", ["status"], registry=REGISTRY)
EXPORTED_FRAMES = Counter("exported_frames_total", "Frames in published datasets", registry=REGISTRY)
EXPORT_SECONDS = Histogram(
    "export_seconds",
    "Time from an export's start to its publication",
    buckets=[0.1, 0.5, 1, 5, 15, 60, 300, 1800],
    registry=REGISTRY,
)
PUSHES = Counter("pushes_total", "Pushes to the Hub that ended, by how", ["status"], registry=REGISTRY)
EXPORTS_WAITING = Gauge("exports_waiting", "Exports that no worker has begun", registry=REGISTRY)
EXPORTS_RUNNING = Gauge("exports_running", "Exports that workers are making", registry=REGISTRY)
EXPORTS_FAILED = Gauge("exports_failed_lately", "Exports that failed in the last hour", registry=REGISTRY)
OLDEST_WAITING = Gauge(
    "exports_oldest_waiting_seconds", "How long the first export that waits has waited", registry=REGISTRY
)
PUSHES_FAILED = Gauge("pushes_failed_lately", "Pushes that failed in the last hour", registry=REGISTRY)
