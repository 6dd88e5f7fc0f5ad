"""What every test runs under: no per-example deadline (machines are shared), threads that sleep while they wait, and a
cache of its own in the user's place.
"""

import os
from collections.abc import Iterator

# Two test processes on two cores, each spinning for the other's threads, are a hundred times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import settings

settings.register_profile("limbeck", deadline=None)
settings.load_profile("limbeck")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what a user's run left in the cache, or leaves anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
