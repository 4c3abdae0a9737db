"""LeRobotDataset v3.0, one module per part of its tree. Pure, tables and documents in and out, but for
`files`, `writer` and `recorded_stats`: how each file is written, all in one go, and what reads them again.

Format: https://huggingface.co/docs/lerobot/lerobot-dataset-v3, as LeRobot 0.6.1 reads it.
"""
