"""Named limits of the telemetry protocol; the server tells its own in `welcome`."""

from msgspec import Struct

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_FRAMES_PER_BATCH = 4096
MAX_VECTOR_VALUES = 1024
MAX_NAME_LENGTH = 128
MAX_TEXT_LENGTH = 4096
WINDOW_BATCHES = 64
WINDOW_BYTES = 8 * 1024 * 1024
# What both Python's datetime and PostgreSQL can say, in UTC: the years 1 to 9999, us since the Unix epoch.
FIRST_US = -62_135_596_800_000_000
LAST_US = 253_402_300_799_999_999


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one connection may send, and how much of it unacknowledged."""

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_frames: int = MAX_FRAMES_PER_BATCH
    window_batches: int = WINDOW_BATCHES
    window_bytes: int = WINDOW_BYTES
