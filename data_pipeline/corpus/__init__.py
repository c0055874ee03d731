"""Where text comes from: a corpus spec, such as a folder, becomes the text of each split.

May import `flags`. Begin with `spec.py`; a new kind of corpus is a file of its own and a branch in it.
"""
