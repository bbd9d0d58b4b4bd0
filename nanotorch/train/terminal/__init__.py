"""The surroundings of a command: its streams, exit codes, signals and threads, and tables as text."""
