"""A simulated SO-101 leader and follower with two cameras, for LeRobot"""
