"""LeRobot v3.0 datasets as files: written, read, judged and repaired, without LeRobot."""
