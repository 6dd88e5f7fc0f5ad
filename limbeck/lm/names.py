"""Models by name: a name that `limbeck pull` knows, a local folder, or a hub id, each to a folder on this machine.

Knows no torch: a run that is fresh must not wait for it.
"""

from pathlib import Path

from limbeck.errors import ModelError, first_line
from limbeck.lm.pull import KNOWN_MODELS, cache_folder, pull

# No second copy of the weights in other formats.
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def model_folder(name: str) -> Path:
    """Resolve a model's name to a folder: a pulled model, a local folder, or a hub id's snapshot (fetched once).

    Raises:
        ModelError: where there is no such model, or the hub cannot be reached.
    """
    if name in KNOWN_MODELS:
        return pull(name).resolve()
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name} is a folder without config.json: not a saved model")
        return path.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = ", ".join(sorted(KNOWN_MODELS))
        raise ModelError(f"no model {name!r}: expected a local folder, a hub id such as Qwen/Qwen2.5-0.5B, or {known}")
    return _hub_snapshot(name)


def _hub_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = first_line(error)
        raise ModelError(
            f"the model {name} is no local folder and could not be fetched from the hub: {reason}"
        ) from error


def folder_here(name: str) -> Path | None:
    """Where a model's files lie on this machine already, weights or not; None where they would have to be fetched."""
    path = cache_folder() / "models" / name if name in KNOWN_MODELS else Path(name).expanduser()
    if (path / "config.json").is_file():
        return path.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name that the hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None
