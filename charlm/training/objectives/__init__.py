"""Objectives, the terms of the training loss. Begin with `base.py`; `terms.py` makes those that the flags ask for."""
