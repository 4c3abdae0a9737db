"""`export-to-dataset`: turns recorded sessions into a dataset on this machine."""
