"""The network: cells, the time loop, layers, and the model made of them.

May import `flags`. Begin with `model.py`; a new cell goes into `cells.py`.
"""
