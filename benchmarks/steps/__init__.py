"""One training step of an MLP as every contestant takes it: frameworks, JAX, NumPy by hand, numba by hand."""
