"""Old sessions leave the database for the store, and come back from it.

A partition of `teleop_frame` has the frames of 1000 sessions. Once all of them ended long enough ago, each is
copied to the store. The copy is read again and compared with the database value by value, and then the
partition is dropped. Small data stays in the database: sessions, episodes, gaps, marks,
and the account of the ledger.
"""

from teleop_telemetry.archive.adopting import AdoptedSessions, adopt
from teleop_telemetry.archive.edits import ArchiveEdits
from teleop_telemetry.archive.frame_file import ArchivedFrames
from teleop_telemetry.archive.lost import FIND_EVERY_S, LostFrames
from teleop_telemetry.archive.reading import ArchiveReader
from teleop_telemetry.archive.retention import LOOK_EVERY_S, RETENTION_CONNECTIONS, Retention
from teleop_telemetry.archive.session_files import FOLDER, SessionFiles, archive_address, names_of

__all__ = [
    "FIND_EVERY_S",
    "FOLDER",
    "LOOK_EVERY_S",
    "RETENTION_CONNECTIONS",
    "AdoptedSessions",
    "ArchiveEdits",
    "ArchiveReader",
    "ArchivedFrames",
    "LostFrames",
    "Retention",
    "SessionFiles",
    "adopt",
    "archive_address",
    "names_of",
]
