"""The commands: charlm-train, charlm-evaluate, charlm-sample, charlm-export. May import every room; none imports them.

The installed scripts are the interface; `python -m charlm.commands.train` does the same.
"""
