"""The spool: the folder of a stream, its segments and records; written by the recording process."""
