"""A trained model as a SavedModel that runs without charlm.

May import `evaluation` and all below it. Begin with `export.py`.
"""
