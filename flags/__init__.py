"""Command-line flags, made from the dataclasses of `flags.config`."""
