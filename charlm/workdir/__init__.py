"""The room of what a run keeps on the disk: its configuration, checkpoints and metrics, and the trained model in them.

It may import `flags`, `data_pipeline` and `network`. Begin with `layout.py`, which draws the folder; `checkpoint.py`
is what a run resumes from, `trained_model.py` what the other commands open.
"""
