"""Metrics of video-ingest-service."""

from prometheus_client import Counter, Gauge
from teleop_runtime.metrics import REGISTRY

STORED_FILES = Counter("stored_files_total", "Files received", ["kind"], registry=REGISTRY)
STORED_BYTES = Counter("stored_bytes_total", "Bytes of received files", ["kind"], registry=REGISTRY)
PROBES = Counter("video_probes_total", "Checks of video chunks, by result", ["end"], registry=REGISTRY)
QUARANTINED = Counter(
    "quarantined_videos_total", "Video chunks that can't be used as video", registry=REGISTRY
)
UNLOOKED = Gauge("videos_not_looked_into", "Video chunks whose check has not finished yet", registry=REGISTRY)
OUTDATED = Gauge(
    "videos_to_look_into_again",
    "Video chunks checked by an older release but not yet by this one",
    registry=REGISTRY,
)
CORRECTED = Counter(
    "corrected_videos_total",
    "Video chunks in which a later check found different pictures",
    registry=REGISTRY,
)
DAMAGED = Counter("damaged_objects_total", "Stored objects found damaged or missing", registry=REGISTRY)
VERIFIED_BYTES = Counter("verified_bytes_total", "Stored bytes read again and hashed", registry=REGISTRY)
SWEPT_OBJECTS = Counter(
    "swept_objects_total", "Objects removed because nothing referred to them", registry=REGISTRY
)
UNCLAIMED_OBJECTS = Gauge(
    "unclaimed_objects", "Objects of the store that the database does not know: kept", registry=REGISTRY
)
FREE_BYTES = Gauge("store_free_bytes", "Free bytes for files; absent for S3", ["place"], registry=REGISTRY)
NEAR_QUOTA = Gauge(
    "robots_near_quota",
    "Robots whose files take 90 % of what they may (nearly_used), or all of it (used)",
    ["state"],
    registry=REGISTRY,
)
RECEIVED_BYTES = Counter("received_bytes_total", "Received bytes of uploads", registry=REGISTRY)
