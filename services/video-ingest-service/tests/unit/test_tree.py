"""Where files lie for people who look into the folder."""

from teleop_video_ingest.model.tree import dataset_path, video_path


def test_paths_are_what_the_readme_says():
    """Chunks sort by name; a dataset keeps its own paths."""
    assert video_path("robot_A", 7, "front", 12) == "robot_A/sessions/7/front/000012.mp4"
    assert dataset_path("robot_A", "me/picking", "meta/info.json") == "robot_A/me/picking/meta/info.json"
