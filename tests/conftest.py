"""What every test runs under: no per-example deadline (machines are shared), threads that sleep while they wait, and a
cache of its own in the user's place.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

# Two test processes on two cores, each spinning for the other's threads, are a hundred times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from limbeck.lm.kernels import Kernels

settings.register_profile("limbeck", deadline=None)
settings.load_profile("limbeck")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what a user's run left in the cache, or leaves anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def compiled(own_cache: None) -> "Kernels":
    """The compiled kernels, built into the tests' own cache; without them, what asks for them is skipped."""
    from limbeck.lm.kernels import kernels  # most tests do without torch

    found = kernels()
    if found is None:
        pytest.skip("no C++ compiler")
    return found
