"""`dap train`: LeRobot's training, fed from decoded frames, with atomic checkpoints and exact resumption."""
