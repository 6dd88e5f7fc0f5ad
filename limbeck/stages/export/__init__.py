"""Screened pairs to a data set that others read: parquet in TRL's preference format, provenance on every row, a card.

Reads: kept_KIND (Pair) for every kind; made_KIND (Pair), the same before screening, and dropped (who fell out, and
    why), where screening came before; rolling_stream (Pair), along which rolling pairs were written, where no such kind
    is kept.
Writes: data/SPLIT-00000-of-00001.parquet (train, validation), dropped/dropped-00000-of-00001.parquet with reasons,
    README.md (the card); without pyarrow the same rows as .jsonl.
Start reading at: `assembly.run`, then `columns.COLUMNS`.
"""

from limbeck.stages.export.assembly import run

__all__ = ["run"]
