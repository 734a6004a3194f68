"""What image shifts do to a policy's action chunks on a recorded dataset: no simulator, no robot."""
