"""What can be chosen: the flags of all commands, with their defaults, limits, rules and help.

May import nothing else of ours; every other room may import it. Begin with `schema.py`, which says what a flag is made
of. Each group of flags has a file: `data`, `network`, `training` and `run` for charlm-train; `evaluation`,
`generation` and `serving` for the other commands. `config.py` joins what a model is made with, `parse.py` reads a
command line, `help.py` explains it.
"""
