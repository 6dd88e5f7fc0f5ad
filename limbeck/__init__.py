"""Distil reasoning into small conversational language models."""

import sys

if sys.platform == "win32":  # it has none of the file locks that run folders are held by
    raise SystemExit("limbeck runs on Linux and macOS; on Windows, inside WSL 2")
