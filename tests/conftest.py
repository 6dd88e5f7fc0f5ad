"""What every test runs under: no per-example deadline (machines are shared), threads that sleep while they wait."""

import os

# Two test processes on two cores, each spinning for the other's threads, are a hundred times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from hypothesis import settings

settings.register_profile("limbeck", deadline=None)
settings.load_profile("limbeck")
