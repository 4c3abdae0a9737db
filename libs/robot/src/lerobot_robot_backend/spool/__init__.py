"""The spool: a stream's directory, its segments and records; written by the recording process."""
