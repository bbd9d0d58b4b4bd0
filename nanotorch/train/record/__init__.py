"""What a run leaves behind: its directory, checkpoints, logs, and how a stopped run goes on."""
