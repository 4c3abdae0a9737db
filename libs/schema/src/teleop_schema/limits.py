"""Named limits of the telemetry protocol; the server sends its own in `welcome`."""

from msgspec import Struct

# Each connection holds a whole message while it is decoded, so this is small;
# but a batch of MAX_FRAMES_PER_BATCH frames with thirty values fits.
MAX_MESSAGE_BYTES = 1024 * 1024
# A minute at 60 Hz, which a robot sends at a time after it was cut off.
MAX_FRAMES_PER_BATCH = 4096
# Several times a humanoid with two hands; a record of the robot's spool has space for this many.
MAX_VECTOR_VALUES = 1024
# Names are in every plain message and in every column of an export.
MAX_NAME_LENGTH = 128
# A task, a note: a page.
MAX_TEXT_LENGTH = 4096
# Unacknowledged messages. At six messages a second, this allows ten seconds of silence,
# which a slow commit or a slow connection may take.
WINDOW_BATCHES = 64
# Unacknowledged bytes: what the server may have to hold for one robot, in the kernel and above.
WINDOW_BYTES = 8 * 1024 * 1024
# The range of both Python's datetime and PostgreSQL, in UTC: the years 1 to 9999, us since the Unix epoch.
FIRST_US = -62_135_596_800_000_000
LAST_US = 253_402_300_799_999_999


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """How much one connection may send, and how much of it may be unacknowledged.

    max_message_bytes  of one message
    max_frames         frames of one batch
    window_batches     batches that are not acknowledged
    window_bytes       bytes of them
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_frames: int = MAX_FRAMES_PER_BATCH
    window_batches: int = WINDOW_BATCHES
    window_bytes: int = WINDOW_BYTES
