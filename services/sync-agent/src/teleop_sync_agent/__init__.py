"""Beside the robot: brings spooled telemetry, video and recorded datasets to the backend."""
