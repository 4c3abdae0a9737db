"""`import-dataset`: a LeRobot dataset on this machine becomes a session of the backend."""
