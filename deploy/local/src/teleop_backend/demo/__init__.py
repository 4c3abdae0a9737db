"""`make demo`: everything from end to end, with a virtual robot."""
