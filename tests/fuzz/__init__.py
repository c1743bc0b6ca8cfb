"""Inputs that somebody or something has damaged, through the real readers: `python -m tests.fuzz`.

Each file here is a kind of input: how a good one is made, how it is mutated, and what reads it. `case.py` runs one
mutated input in a process of its own and says what went wrong with it.
"""
