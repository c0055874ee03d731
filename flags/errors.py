"""Failures that a command reports in one line, without a traceback."""


class UserError(ValueError):
  """A mistake of the user's: one line that names the flag or file, the value and what was expected."""


class RunError(RuntimeError):
  """A failure while running, such as a full disk: one line that says what failed and what to do next."""
