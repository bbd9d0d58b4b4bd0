"""Products, norms, factorisations and solutions of matrices."""
