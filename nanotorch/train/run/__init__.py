"""A run from its config to its report, and several runs of one config."""
