"""Data preparation, training, evaluation and releases. The commands are in `training.jobs`."""

import os

# OpenMP reads this when torch is loaded. Threads that spin while waiting waste time slices on shared cores: next to two
# busy processes on two cores, training was five times slower than with threads that sleep.
os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
# NumPy's threads always spin, and its matrix products here are too small to profit from a second thread.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")
# oneDNN caches compiled kernels per batch shape; its default of a thousand takes a gigabyte.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
