"""What a person sees of a run, and how a run hears that it is to stop."""
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import tqdm

LAYOUT = '{percentage:3.0f}% |{bar}| {desc}, {elapsed} so far, {remaining} left'


class Terminal:
  """A bar on standard error where that is a terminal, and lines where it is not.

  Attributes:
    interrupted: whether Ctrl-C, SIGTERM or SIGHUP has asked for a stop.
  """

  def __init__(self, progress: float, quiet: bool = False):
    """progress: share of the run that is done, 0 to 1. quiet: shows nothing, as another process shows all."""
    self._bar = tqdm.tqdm(total=1.0, initial=progress, bar_format=LAYOUT, disable=quiet or not sys.stderr.isatty())
    self.interrupted, self._quiet, self._speed = False, quiet, ''

  def show(self, step: int, progress: float, metrics: Any, best_nats: float | None) -> None:
    """Moves the bar. metrics: a StepMetrics. best_nats: the best validation loss so far."""
    if metrics.timed_seconds and metrics.tokens:
      self._speed = f', {metrics.nats_per_token():.3f} nats, {metrics.tokens_per_second():,.0f} tokens/s'
    best = '' if best_nats is None else f', best valid {best_nats:.3f}'
    self._bar.set_description_str(f'step {step}{self._speed}{best}', refresh=False)
    self._bar.update(progress - self._bar.n)

  def report(self, line: dict[str, Any]) -> None:
    """Prints a line of metrics.jsonl where there is no bar."""
    if self._bar.disable and not self._quiet:
      print(words(line), file=sys.stderr)

  def sample(self, step: int, text: bytes) -> None:
    """Prints what the model wrote."""
    self._bar.write(f'--- step {step} writes:\n{text.decode("utf-8", "replace")}\n---', file=sys.stderr)

  def leave(self, step: int) -> None:
    """Says that the run was stopped, and how it goes on."""
    self._bar.close()
    if not self._quiet:
      print(f'Stopped after step {step}; all is saved. The same command goes on from there.', file=sys.stderr)

  @contextlib.contextmanager
  def open(self) -> Iterator['Terminal']:
    """Within it Ctrl-C, SIGTERM and SIGHUP ask for a stop after the step; a second Ctrl-C or SIGTERM stops at once.

    A terminal that closes may send SIGHUP twice. Where SIGHUP was ignored at the start, as under nohup, it stays so.
    """
    def ask(number: int, frame: Any) -> None:
      if self.interrupted and number != signal.SIGHUP:
        raise KeyboardInterrupt
      if not self.interrupted:
        self.interrupted = True
        with contextlib.suppress(OSError):  # the terminal may be gone
          os.write(2, b'\nStopping after this step, or evaluation; once more stops at once, without saving\n')

    hangup = [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, *hangup)}
    try:
      with self._bar:
        yield self
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


def words(line: dict[str, Any]) -> str:
  """A line of metrics.jsonl, for people."""
  parts = [f'step {line["step"]}', f'epoch {line["epoch"]:.2f}', f'train {line["train_nats_per_token"]:.4f} nats']
  if 'multi_step_nats_per_token' in line:
    parts.append(f'{line["multi_step_nats_per_token"]:.4f} nats on its own')
  if 'discriminator_accuracy' in line:
    parts.append(f'discriminator right {line["discriminator_accuracy"]:.0%}')
  if 'valid_nats_per_token' in line:
    parts.append(f'valid {line["valid_nats_per_token"]:.4f} nats')
  if 'tokens_per_second' in line:
    parts.append(f'{line["tokens_per_second"]:,.0f} tokens/s')
  return ', '.join([*parts, f'{line["seconds"]:.0f} s'])
