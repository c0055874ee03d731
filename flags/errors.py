"""Failures that a command tells in one line."""


class UserError(ValueError):
  """A mistake of the user's: one line that names the flag or file, the value and what was expected."""


class RunError(RuntimeError):
  """A failure while running that is nobody's typing mistake: one line that says what to do next."""
