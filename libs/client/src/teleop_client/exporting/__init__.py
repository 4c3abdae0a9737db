"""`export-to-dataset`: recorded sessions as a dataset on this machine."""
