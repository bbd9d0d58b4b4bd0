"""Operators that work on every element alone: arithmetic, comparison, functions, activations."""
