"""How good predictions are: losses and metrics over batches, scores by name, confusion and calibration."""
