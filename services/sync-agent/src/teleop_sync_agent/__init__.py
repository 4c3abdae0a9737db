"""Runs on the robot PC, and uploads spooled telemetry, video and recorded datasets to the backend."""
