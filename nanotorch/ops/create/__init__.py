"""Tensors that come from data, constants, ranges and random numbers, and other dtypes and devices of them."""
