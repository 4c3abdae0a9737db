"""What the robot, the services and the database agree on: messages, limits, error codes, tables."""
