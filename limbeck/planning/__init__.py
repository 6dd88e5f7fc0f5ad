"""What a run would take, before anything is spent: units, pairs, tokens, steps, memory, hours, money.

Nothing is written into the run folder, sent or fetched.

Reading order: `ranges` (what is not known exactly has a lowest, a likely and a highest value), `tables` (what the
corpus will hold, read lightly), `lengths` (how long rows are, in tokens), `pairs` (how long pairs of a kind are),
`work` (what each unit computes), `asking` (what teacher and judges are asked, and what that costs), `machine` (memory
and speed here), `assembly` (all of it), `show` (how it is printed).
"""
