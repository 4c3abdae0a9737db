"""What telemetry-service counts."""

from prometheus_client import Counter, Gauge, Histogram
from teleop_runtime.metrics import REGISTRY


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"telemetry_{name}_total", meaning, labels, registry=REGISTRY)


CONNECTIONS = Gauge("telemetry_connections", "Open telemetry connections", ["mode"], registry=REGISTRY)
FRAMES_RECEIVED = _counter("frames_received", "Frames taken in")
FRAMES_COMMITTED = _counter("frames_committed", "Frames committed")
FRAMES_MISSING = _counter("frames_missing", "Frames stored as named gaps")
BATCHES_KNOWN = _counter("batches_known", "Batches sent again that were stored before")
REWINDS = _counter("rewinds", "Times a robot was told to rewind")
MESSAGES_REFUSED = _counter("messages_refused", "Messages refused, by error", "code")
COMMIT_FAILURES = _counter("commit_failures", "Commits that failed and were tried again")
SESSIONS_LOCKED = _counter("sessions_locked", "Times a session had to wait because somebody held its row")
COMMIT_SECONDS = Histogram("telemetry_commit_seconds", "Time of one commit", registry=REGISTRY)
COMMIT_ROWS = Histogram(
    "telemetry_commit_rows",
    "Frames of one commit",
    buckets=[1, 10, 60, 300, 1000, 3000, 10_000],
    registry=REGISTRY,
)
HELD_BYTES = Gauge("telemetry_held_bytes", "Frames that wait for their commit, bytes", registry=REGISTRY)
