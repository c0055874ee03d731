"""How products and layers are computed: by XLA anywhere, or by native kernels on a CPU. A model holds one backend.

`base.py` says what a backend does; `choice.py` chooses one by --recurrence.
"""
