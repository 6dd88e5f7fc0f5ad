"""TensorBoard: event files, by the library's own light writer (no torch, no TensorFlow)."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.tracking.protocol import Split, TrackedRun


class TensorBoard:
    """Event files in FOLDER/tensorboard/RUN, which `tensorboard --logdir FOLDER/tensorboard` shows."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, run: TrackedRun) -> None:
        """Open a file in the run's own folder. Its settings are shown under Text."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = _folder_of(run)
        self._writer = EventFileWriter(str(folder), filename_suffix=f".{run.id}")
        if not run.resumed:
            self._write(0, _settings_summary(run.settings))
        self._writer.flush()

    def log(self, step: int, split: Split, values: Mapping[str, float]) -> None:
        """Write one event and flush it: a curve is there to be looked at while it grows."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        named = [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
        self._write(step, Summary(value=named))
        self._writer.flush()

    def finish(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _folder_of(run: TrackedRun) -> Path:
    """The folder that holds this run's files already, else the first that holds nobody's: RUN, RUN-2, RUN-3, ...

    TensorBoard shows all files of a folder as one curve, so a unit that runs anew needs another.
    """
    place = run.folder / "tensorboard" / run.name
    number = 1
    while True:
        folder = place if number == 1 else place.with_name(f"{place.name}-{number}")
        files = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        if all(name.endswith(f".{run.id}") for name in files):
            return folder
        number += 1


def _settings_summary(settings: Mapping[str, Any]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    lines = [f"| {name} | {value} |" for name, value in settings.items()]
    table = "\n".join(["| setting | value |", "|---|---|", *lines])
    tensor = TensorProto(dtype=DT_STRING, string_val=[table.encode()])
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary(value=[Summary.Value(tag="settings/text_summary", metadata=metadata, tensor=tensor)])
