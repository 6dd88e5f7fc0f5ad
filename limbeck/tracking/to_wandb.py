"""Weights & Biases: online where the user is logged in or says so by WANDB_MODE, else files for `wandb sync`."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from limbeck.tracking.protocol import Split, TrackedRun


class Wandb:
    """A W&B run of the curves alone: no console, code or git, no look at the machine, no reports of errors."""

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        """Begin or go on: a run of the same id is the same one to W&B."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        run.folder.mkdir(parents=True, exist_ok=True)
        decided_elsewhere = bool(os.environ.get("WANDB_MODE")) or logged_in()
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            group=run.name.partition("/")[0],
            id=run.id,
            resume="allow",
            config=run.settings,
            dir=str(run.folder),
            mode=None if decided_elsewhere else "offline",
            save_code=False,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def log(self, step: int, split: Split, values: Mapping[str, float]) -> None:
        """Log one point; those of one step become one row."""
        self._run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def finish(self) -> None:
        """Wait until W&B has everything, or its files are closed."""
        self._run.finish()


def logged_in() -> bool:
    """Whether W&B has a key: in the environment, or where `wandb login` leaves one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if path.is_file() and host in netrc.netrc(path).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue  # W&B could not read it either
    return False
