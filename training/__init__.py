"""The jobs, in their order: prepare, train, evaluate, register, index, seed. Each is `python -m training.<name>`."""

import os

# Read by OpenMP as torch is loaded. Threads that wait actively for each other lose whole time slices where the cores
# are shared: beside two busy processes on two cores training was five times slower than with threads that sleep.
os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
# NumPy's own threads do wait actively, and its products here are too small to be worth a second one.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")
# Batches differ in shape and every shape has its compiled products; the default, a thousand of them, takes a gigabyte.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
