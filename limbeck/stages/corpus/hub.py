"""A data set of the Hugging Face hub to rows, streamed by the optional library `datasets`. Nothing else goes online."""

from collections.abc import Iterator

import httpx

from limbeck.errors import InputError
from limbeck.recipe_corpus import Dataset
from limbeck.stages.corpus.files import NumberedRow
from limbeck.stages.corpus.optional import library


def hub_rows(dataset: Dataset) -> Iterator[NumberedRow]:
    """Yield the rows of `dataset.split` (of `dataset.config`) in the hub's order, without keeping a copy on disk.

    Raises:
        InputError: no such data set, configuration or split; no connection; or the library is not installed.
    """
    datasets = library("datasets", f"{dataset.path} from the hub")
    try:
        rows = datasets.load_dataset(dataset.path, dataset.config, split=dataset.split, streaming=True)
        for number, values in enumerate(rows, 1):
            yield NumberedRow(number, dict(values))
    except (datasets.exceptions.DatasetsError, httpx.HTTPError, ValueError, OSError) as error:
        asked = f"split {dataset.split!r}" + (f" of configuration {dataset.config!r}" if dataset.config else "")
        said = " ".join(str(error).split())
        raise InputError(
            f"there is no file or folder {dataset.path!r} here, and the {asked} of the hub's data set of that name "
            f"cannot be read ({type(error).__name__}: {said})"
        ) from error
