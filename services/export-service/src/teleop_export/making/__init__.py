"""A LeRobot dataset is written: rows, pictures, statistics."""
