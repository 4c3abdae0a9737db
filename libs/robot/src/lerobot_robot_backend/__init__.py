"""Robot side of the LeRobot backend: records every sample to disk first, then ships it"""
