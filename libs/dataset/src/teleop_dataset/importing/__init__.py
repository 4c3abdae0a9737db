"""A LeRobot dataset as what a session consists of: frames, episodes with their tasks, cameras and columns.

Nobody vouches for the files: everything that they say is checked, and memory is bounded by a few thousand
rows. It needs no video: where pictures are, the dataset's own tables tell.
"""

from teleop_dataset.importing.described import Described, ImportedCamera, ImportedVideo, describe
from teleop_dataset.importing.frames import FrameTables, ImportedEpisode

__all__ = ["Described", "FrameTables", "ImportedCamera", "ImportedEpisode", "ImportedVideo", "describe"]
