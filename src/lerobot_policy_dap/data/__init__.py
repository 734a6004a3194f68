"""Demonstrations in and out of LeRobotDataset, decoded frames, and batches."""
