"""Training: one compiled step, the loop around it, and what decides when to report, evaluate, save and stop.

May import `evaluation` and all below it. Begin with `trainer.py`.
"""
