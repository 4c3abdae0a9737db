"""Sessions as they were recorded, as Parquet and MCAP."""
