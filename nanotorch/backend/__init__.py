"""The only place that knows NumPy from CuPy."""
