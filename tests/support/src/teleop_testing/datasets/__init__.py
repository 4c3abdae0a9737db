"""Datasets, as LeRobot makes them or as they are found."""
