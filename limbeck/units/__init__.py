"""The units of work that `pipeline.py` lists: what each reads, and which part of the recipe decides it.

Start reading at `unit.py`.
"""
