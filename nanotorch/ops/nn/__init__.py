"""Operators of neural networks: layers, normalisation, attention, losses."""
