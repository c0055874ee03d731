"""How likely a text is under a model: plain, dynamic, Monte Carlo dropout, and free-running evaluation.

May import `generation` and all below it. Begin with `scoring.py`.
"""
