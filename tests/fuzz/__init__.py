"""A differential fuzzer: random calls of every public operator, compared with PyTorch (see `test_fuzz.py`)."""
