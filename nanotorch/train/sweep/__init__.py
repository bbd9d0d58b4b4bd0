"""Sweeps: many trials of one config, each a run of its own."""
