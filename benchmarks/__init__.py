"""Benchmarks: nanotorch side by side with its peers, as ratios measured in one run.

Everything here runs on one BLAS thread: the libraries read the limit when they are loaded, so it is set
before any of them is imported. Set the variables yourself to measure something else.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
