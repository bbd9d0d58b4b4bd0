"""Models by name, and how their weights begin."""
