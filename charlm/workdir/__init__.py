"""What a run keeps on disk: configuration, checkpoints, metrics, and the trained model read back from them.

May import `flags`, `data_pipeline` and `network`. Begin with `layout.py`.
"""
