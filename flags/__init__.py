"""Command-line flags, made from the dataclasses of `charlm.config`."""
