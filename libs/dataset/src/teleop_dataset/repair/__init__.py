"""Repairs datasets whose recorder was killed: `repair(source, target)`.

LeRobot can't open them, because their Parquet files have no footers. But they contain all saved episodes.
"""

from teleop_dataset.repair.decoding import Decoding
from teleop_dataset.repair.rebuild import repair
from teleop_dataset.repair.report import Lost, RepairReport
from teleop_dataset.repair.soundness import Soundness, find_sound

__all__ = ["Decoding", "Lost", "RepairReport", "Soundness", "find_sound", "repair"]
