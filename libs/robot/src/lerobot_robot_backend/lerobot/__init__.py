"""Records LeRobot's commands."""
