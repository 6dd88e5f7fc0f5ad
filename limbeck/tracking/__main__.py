"""The process that a tracker lives in: `python -m limbeck.tracking TRACKER METRICS TAKEN`, the run as a line of input.

Ends when its standard input does, at the latest `longest_end_seconds` after. What the user should know, it says on
standard output.
"""

import contextlib
import fcntl
import os
import select
import sys
import threading
from pathlib import Path

from limbeck.tracking.fake import FakeTracker
from limbeck.tracking.following import follow, growing
from limbeck.tracking.protocol import TrackedRun, Tracker
from limbeck.tracking.to_tensorboard import TensorBoard
from limbeck.tracking.to_trackio import Trackio
from limbeck.tracking.to_wandb import Wandb

LOOK_EVERY_SECONDS = 0.5
_SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TRACKIO_WRITE_TOKEN", "TRACKIO_SERVER_URL")


def tracker_named(name: str) -> Tracker:
    """A tracker by its name in the recipe; `fake` and `fake:FAULT` are for tests."""
    kind, _, fault = name.partition(":")
    known: dict[str, Tracker] = {
        "tensorboard": TensorBoard(),
        "trackio": Trackio(),
        "wandb": Wandb(),
        "fake": FakeTracker(fault),
    }
    return known[kind]


def without_secrets(text: str) -> str:
    """One line of what a library says, without what must not be shown."""
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return " ".join(text.split())[:200]


def main() -> None:
    """Follow the metrics file until there will be no more."""
    tracker, metrics, taken = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    # What a library prints is nobody's; only what is told here reaches the user.
    voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.nice(10)  # training comes first
    run = TrackedRun.model_validate_json(sys.stdin.buffer.readline())

    def ended() -> bool:
        ready, _, _ = select.select([sys.stdin], [], [], LOOK_EVERY_SECONDS)
        return bool(ready)  # nothing follows the first line but the end

    def watch() -> None:
        while not ended():
            pass
        threading.Event().wait(run.longest_end_seconds)
        os._exit(4)

    def tell(error: Exception) -> None:
        said = without_secrets(f"{type(error).__name__}: {error}")
        with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it
            voice.write(f"{tracker} fails ({said}); training goes on, and the manifest counts what it misses\n")
            voice.flush()

    threading.Thread(target=watch, daemon=True).start()
    # Held open from now on: a file that takes the place of this one is another run's.
    with metrics.open("rb") as file, taken.open("a") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)  # of a run that was killed, another such process may still be at its end
        follow(tracker_named(tracker), run, growing(file, ended), taken, tell)


if __name__ == "__main__":
    main()
