"""What LeRobot's commands are recorded with."""
