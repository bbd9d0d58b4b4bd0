"""The config of a run: strict YAML, its sections, and their schema for editors."""
