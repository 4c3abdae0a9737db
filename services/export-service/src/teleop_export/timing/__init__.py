"""When samples and pictures were taken, and which belongs to which row; pure."""
