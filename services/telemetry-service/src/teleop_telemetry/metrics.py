"""Metrics of telemetry-service."""

from prometheus_client import Counter, Gauge, Histogram
from teleop_runtime.metrics import REGISTRY


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"telemetry_{name}_total", meaning, labels, registry=REGISTRY)


CONNECTIONS = Gauge("telemetry_connections", "Open telemetry connections", ["mode"], registry=REGISTRY)
FRAMES_RECEIVED = _counter("frames_received", "Frames received")
FRAMES_COMMITTED = _counter("frames_committed", "Frames committed")
FRAMES_MISSING = _counter("frames_missing", "Frames recorded as gaps")
FRAMES_UNACCOUNTED = _counter(
    "frames_unaccounted", "Frames of ended sessions that are neither stored nor recorded as gaps: a defect"
)
SESSIONS_AUDITED = _counter("sessions_audited", "Ended sessions that were audited")
BATCHES_KNOWN = _counter("batches_known", "Batches that robots sent again after they were stored")
REWINDS = _counter("rewinds", "Times a robot was asked to rewind")
MESSAGES_REFUSED = _counter("messages_refused", "Messages refused, by error", "code")
COMMIT_FAILURES = _counter("commit_failures", "Commits that failed and were retried")
COMMITS_BLOCKED = Gauge(
    "telemetry_commits_blocked", "1 while frames can't be committed, by reason", ["code"], registry=REGISTRY
)
SESSIONS_LOCKED = _counter("sessions_locked", "Times a session had to wait for a lock on its row")
COMMIT_SECONDS = Histogram("telemetry_commit_seconds", "Duration of a commit", registry=REGISTRY)
COMMIT_ROWS = Histogram(
    "telemetry_commit_rows",
    "Frames per commit",
    buckets=[1, 10, 60, 300, 1000, 3000, 10_000],
    registry=REGISTRY,
)
SESSIONS_ARCHIVED = _counter("sessions_archived", "Sessions copied to the archive")
FRAMES_ARCHIVED = _counter("frames_archived", "Frames copied to the archive")
PARTITIONS_DROPPED = _counter("partitions_dropped", "Partitions moved to the archive")
ARCHIVE_FAILURES = _counter("archive_failures", "Times a partition could not be archived")


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"telemetry_{name}", meaning, labels, registry=REGISTRY)


RETENTION_BLOCKED = _gauge(
    "retention_blocked_sessions", "Sessions that never ended and keep old partitions in the database"
)
DATABASE_UP = _gauge("database_up", "Whether the database answers this replica: 1 or 0")
DATABASE_BYTES = _gauge("database_bytes", "Size of the database on disk")
FRAME_PARTITIONS = _gauge("frame_partitions", "Partitions of teleop_frame")
FRAME_BYTES = _gauge("frame_bytes", "Size of all frames on disk, including indexes")
FRAME_ROWS = _gauge("frame_rows", "Frames in the database, as the planner estimates them")
PARTITION_BYTES = _gauge("partition_bytes", "Size of one of the newest partitions", "partition")
PARTITION_ROWS = _gauge("partition_rows", "Frames of one of the newest partitions, estimated", "partition")
ROBOTS_CLASHING = _gauge("robots_clashing", "Robots as which two computers record at the same time")
SESSIONS_RECORDING = _gauge("sessions_recording", "Open sessions with recent frames")
SESSIONS_LOST = _gauge(
    "sessions_lost", "Archived sessions whose frames the file store has lost, unless people deleted them"
)
SESSIONS_SILENT = _gauge("sessions_silent", "Open sessions whose robot has been silent for a minute")
HELD_BYTES = Gauge("telemetry_held_bytes", "Bytes of frames waiting for a commit", registry=REGISTRY)
