"""TensorBoard events and profiles of a run. They are made from metrics.jsonl, so a run goes on without."""
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf

from charlm.network import runtime
from charlm.workdir import layout
from charlm.workdir.names import Folder
from flags import typed


class TensorBoard:
  """Writes events, until that fails; then it says so, and writes no more."""

  def __init__(self, workdir: Folder):
    """Begins anew: removes the events that are there. Profiles stay."""
    self._workdir, self._folder, self._failed = workdir, layout.tensorboard_folder(workdir), False
    self._profiled_steps = 0  # in the profile that is being made
    with self._notice():
      for path in self._folder.glob('events.out.*'):
        path.unlink()
      self._events = tf.summary.create_file_writer(os.fsencode(self._folder))

  def write(self, step: int, numbers: Mapping[str, float]) -> None:
    """Adds the numbers of a step, by name."""
    def add() -> None:
      for name, value in numbers.items():
        tf.summary.scalar(name, runtime.scalar(value))

    self._write(step, add)

  def write_text(self, step: int, text: bytes) -> None:
    """Adds what the model has written at a step."""
    shown = '    ' + text.decode('utf-8', 'replace').replace('\n', '\n    ')
    self._write(step, lambda: tf.summary.text('sample', shown))

  def _write(self, step: int, add: Callable[[], object]) -> None:
    if self._failed:
      return
    with self._notice():
      folder = layout.tensorboard_folder(self._workdir)
      if folder != self._folder:  # it was moved: TensorFlow would make its file again at the old place
        self._folder, self._events = folder, tf.summary.create_file_writer(os.fsencode(folder))
      with self._events.as_default(step=runtime.scalar(step, tf.int64)):
        add()
      self._events.flush()

  @contextlib.contextmanager
  def profile(self, step: int, taken: int, steps: range) -> Iterator[None]:
    """Goes around each call, and makes a profile of those with steps in `steps`, or of as many as the run has.

    Args:
      step: steps done.
      taken: steps that the call takes.
      steps: to profile.
    """
    if step + taken <= steps.start or step >= steps.stop:
      yield
      return
    if not self._profiled_steps:
      self._profile_folder = layout.tensorboard_folder(self._workdir)
      tf.profiler.experimental.start(os.fsencode(self._profile_folder))
    self._profiled_steps += taken
    with tf.profiler.experimental.Trace('train', step_num=step, _r=1):
      yield
    if step + taken >= steps.stop:
      self._end_profile()

  def _end_profile(self) -> None:
    with self._notice():
      steps, self._profiled_steps = self._profiled_steps, 0
      folder = layout.tensorboard_folder(self._workdir)
      tf.profiler.experimental.stop(save=folder == self._profile_folder)  # it would make the old place again
      where = typed.flag('logdir', folder.parent)
      print(f'Profiled {steps} steps: tensorboard {where}, page Profile', file=sys.stderr)

  def close(self) -> None:
    """Ends what is under way."""
    if self._profiled_steps:
      self._end_profile()
    if not self._failed:
      with self._notice():
        self._events.close()

  @contextlib.contextmanager
  def _notice(self) -> Iterator[None]:
    """Says where the body fails, instead of failing."""
    try:
      yield
    except (OSError, tf.errors.OpError) as error:
      self._failed = True
      what = getattr(error, 'strerror', None) or re.sub(r'{{.*?}} ', '', str(error)).splitlines()[0]
      print(f'notice: --workdir={self._workdir}: going on without TensorBoard ({what}). metrics.jsonl has it all, '
            'and the events are made again from it when the same command resumes the run', file=sys.stderr)
