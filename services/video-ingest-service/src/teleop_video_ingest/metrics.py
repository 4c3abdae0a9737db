"""What video-ingest-service counts."""

from prometheus_client import Counter, Gauge
from teleop_runtime.metrics import REGISTRY

STORED_FILES = Counter("stored_files_total", "Files taken in", ["kind"], registry=REGISTRY)
STORED_BYTES = Counter("stored_bytes_total", "Bytes of files taken in", ["kind"], registry=REGISTRY)
PROBES = Counter(
    "video_probes_total", "Looks into video chunks, by how they ended", ["end"], registry=REGISTRY
)
QUARANTINED = Counter(
    "quarantined_videos_total", "Video chunks that can't be used as video", registry=REGISTRY
)
UNLOOKED = Gauge(
    "videos_not_looked_into", "Video chunks that no look has come to an end with yet", registry=REGISTRY
)
OUTDATED = Gauge(
    "videos_to_look_into_again",
    "Video chunks that an older release has looked into, and this one has not yet",
    registry=REGISTRY,
)
CORRECTED = Counter(
    "corrected_videos_total",
    "Video chunks in which a later look found other pictures than an earlier one",
    registry=REGISTRY,
)
DAMAGED = Counter("damaged_objects_total", "Stored objects found damaged or missing", registry=REGISTRY)
VERIFIED_BYTES = Counter("verified_bytes_total", "Stored bytes read again and hashed", registry=REGISTRY)
SWEPT_OBJECTS = Counter(
    "swept_objects_total", "Objects removed because nothing named them", registry=REGISTRY
)
UNCLAIMED_OBJECTS = Gauge(
    "unclaimed_objects", "Objects of the store that the database knows nothing of: kept", registry=REGISTRY
)
FREE_BYTES = Gauge(
    "store_free_bytes", "Bytes that may still be stored; nothing for S3", ["place"], registry=REGISTRY
)
RECEIVED_BYTES = Counter("received_bytes_total", "Bytes of uploads that came in", registry=REGISTRY)
