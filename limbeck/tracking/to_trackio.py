"""trackio: a local database that `trackio show` opens; nothing leaves the machine unless TRACKIO_SPACE_ID asks."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

from limbeck.tracking.protocol import Split, TrackedRun


class Trackio:
    """A run in trackio's own database.

    trackio raises nothing: what goes wrong it says in warnings, which are kept here and raised with the next point.
    """

    def __init__(self) -> None:
        self._run: Any = None
        self._warned: list[warnings.WarningMessage] = []

    def start(self, run: TrackedRun) -> None:
        """Begin or go on; without looking at the machine's load, and without asking a hub who the user is."""
        if not (os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")):
            os.environ["HF_HUB_OFFLINE"] = "1"
        import trackio

        kept = warnings.catch_warnings(record=True).__enter__()  # for as long as the process lives
        self._warned = kept if kept is not None else []
        warnings.simplefilter("always")
        self._run = trackio.init(
            project=run.project,
            name=run.name,
            config=run.settings | {"limbeck_id": run.id},
            resume="allow" if run.resumed else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._complain()

    def log(self, step: int, split: Split, values: Mapping[str, float]) -> None:
        """Queue one point: trackio writes it by a thread of its own."""
        self._run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)
        self._complain()

    def finish(self) -> None:
        """Wait until the queue is empty."""
        self._run.finish()
        self._complain()

    def _complain(self) -> None:
        said = [str(warned.message) for warned in self._warned if "trackio" in warned.filename]
        self._warned.clear()
        if said:
            raise RuntimeError(said[0])
