"""Looks at a run before or while it trains: doctor, dry run, learning rates, origins of non-finite numbers."""
