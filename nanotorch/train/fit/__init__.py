"""Training: the parts that a config asks for, and the loop over them."""
