"""The terms of the training loss. Begin with `base.py`; `terms.py` lists those that a configuration asks for."""
