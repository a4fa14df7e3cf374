"""Torpor beside its peers and the floor under all of them, in one run; `python -m bench --help`."""
