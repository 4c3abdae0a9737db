"""Datasets whose recorder was killed, repaired: `repair(source, target)`.

LeRobot calls them lost, because their Parquet files have no footers. All saved episodes are in them, though.
"""

from teleop_dataset.repair.rebuild import repair
from teleop_dataset.repair.report import Lost, RepairReport
from teleop_dataset.repair.soundness import Soundness, find_sound

__all__ = ["Lost", "RepairReport", "Soundness", "find_sound", "repair"]
