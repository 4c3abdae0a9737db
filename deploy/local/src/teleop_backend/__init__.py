"""The whole LeRobot backend in one process, on an embedded PostgreSQL"""
