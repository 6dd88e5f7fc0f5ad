"""A data set of the Hugging Face hub to rows, streamed by the optional library `datasets`. Nothing else goes online."""

from collections.abc import Iterator

import httpx

from limbeck.errors import InputError
from limbeck.recipe.corpus import Dataset
from limbeck.stages.corpus.files import NumberedRow
from limbeck.stages.corpus.optional import library

BUFFER_ROWS = 10_000  # of a shuffled stream; some tens of MB of conversations


def hub_rows(dataset: Dataset, shuffled_by: int | None = None) -> Iterator[NumberedRow]:
    """Yield the rows of `dataset.split` (of `dataset.config`) in the hub's order, without keeping a copy on disk.

    `shuffled_by`: a seed; then `limit` rows alone, of files in random order through a shuffled buffer, and what is not
    needed for these is not fetched. Rows are numbered as they come.

    Raises:
        InputError: no such data set, configuration or split; no connection; or the library is not installed.
    """
    datasets = library("datasets", f"{dataset.path} from the hub")
    try:
        rows = datasets.load_dataset(dataset.path, dataset.config, split=dataset.split, streaming=True)
        if shuffled_by is not None:
            rows = rows.shuffle(seed=shuffled_by, buffer_size=BUFFER_ROWS).take(dataset.limit)
        for number, values in enumerate(rows, 1):
            yield NumberedRow(number, dict(values))
    # RuntimeError: a data set that is a script; TypeError: a field that is of another type in a later row.
    except (datasets.exceptions.DatasetsError, httpx.HTTPError, ValueError, OSError, RuntimeError, TypeError) as error:
        asked = f"split {dataset.split!r}" + (f" of configuration {dataset.config!r}" if dataset.config else "")
        said = " ".join(str(error).split())
        raise InputError(
            f"there is no file or folder {dataset.path!r} here, and the {asked} of the hub's data set of that name "
            f"cannot be read ({type(error).__name__}: {said})"
        ) from error
