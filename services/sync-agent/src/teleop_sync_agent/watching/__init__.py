"""What is on the disk: folders, datasets, whether they are finished."""
