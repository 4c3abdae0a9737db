"""LeRobotDataset v3.0, one module per part of its tree. Pure: tables and documents in and out.

Format: https://huggingface.co/docs/lerobot/lerobot-dataset-v3, as LeRobot 0.6.1 reads it.
"""
