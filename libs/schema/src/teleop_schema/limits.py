"""Named limits of the telemetry protocol; the server tells its own in `welcome`."""

from msgspec import Struct

# Held as a whole while it is decoded, for each connection; yet a batch of MAX_FRAMES_PER_BATCH of thirty
# values fits.
MAX_MESSAGE_BYTES = 1024 * 1024
# A robot that was cut off sends a minute of 60 Hz at a time.
MAX_FRAMES_PER_BATCH = 4096
# Several times a humanoid with two hands; so many fit a record of the robot's spool.
MAX_VECTOR_VALUES = 1024
# Names stand in every plain message and in every column of an export.
MAX_NAME_LENGTH = 128
# A task, a note: a page.
MAX_TEXT_LENGTH = 4096
# On their way at a time: at six messages a second ten seconds of silence, which a slow commit or a slow line
# may take.
WINDOW_BATCHES = 64
# Of the same: what the server may have to hold for one robot in the kernel and above.
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
