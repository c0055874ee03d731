"""charlm-prepare: a corpus, of any size, to shards of tokens and a manifest, by several processes or machines.

Begin with `make.py`. The work is cut into tasks (`tasks.py`) that do not depend on who does them, nor when; Apache
Beam hands them out (`pipeline.py`, the only file that imports it).
"""
