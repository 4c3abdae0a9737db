"""What export-service counts."""

from prometheus_client import Counter, Gauge, Histogram
from teleop_runtime.metrics import REGISTRY

EXPORTS = Counter("exports_total", "Finished exports, by result", ["status"], registry=REGISTRY)
EXPORTED_FRAMES = Counter("exported_frames_total", "Frames in published datasets", registry=REGISTRY)
EXPORT_SECONDS = Histogram(
    "export_seconds",
    "Time from an export's start to its publication",
    buckets=[0.1, 0.5, 1, 5, 15, 60, 300, 1800],
    registry=REGISTRY,
)
PUSHES = Counter("pushes_total", "Finished pushes to the Hub, by result", ["status"], registry=REGISTRY)
EXPORTS_WAITING = Gauge("exports_waiting", "Exports waiting for a worker", registry=REGISTRY)
EXPORTS_RUNNING = Gauge("exports_running", "Exports in progress", registry=REGISTRY)
EXPORTS_FAILED = Gauge("exports_failed_lately", "Exports that failed in the last hour", registry=REGISTRY)
OLDEST_WAITING = Gauge(
    "exports_oldest_waiting_seconds", "How long the oldest queued export has been waiting", registry=REGISTRY
)
PUSHES_FAILED = Gauge("pushes_failed_lately", "Pushes that failed in the last hour", registry=REGISTRY)
