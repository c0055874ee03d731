"""Hands tasks out to processes by Apache Beam: on this machine, or on others by its runners."""
import contextlib
import logging
import pathlib
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import tqdm

from data_pipeline.beam.tasks import Task, failures, perform
from flags import machine
from flags.errors import RunError, UserError
from flags.prepare import PrepareConfig

SECONDS = 0.2  # between two looks at what is done
PATIENCE = 5  # seconds for processes to end that are told to
STOP, LOG = 'stop', 'workers.log'  # files: tells the processes on this machine to end; what they say


class Runner:
  """Has tasks done, as the flags say by whom."""

  def __init__(self, config: PrepareConfig):
    """Raises UserError where Apache Beam is needed and not installed, or has no such runner."""
    self._config = config
    self._workers = config.workers or machine.cores()
    self._by_beam = self._workers > 1 or bool(config.runner)
    if self._by_beam:
      _check_beam(config)

  def __call__(self, action: str, tasks: Sequence[Task]) -> None:
    """Returns once tasks are done, or one has failed. action: what that is called where it is shown.

    Raises:
      RunError: a process has ended, or Apache Beam has failed.
    """
    with _shown(action, tasks):
      if self._by_beam:
        self._do_by_beam(tasks)
      else:
        for task in tasks:
          perform(task)

  def _do_by_beam(self, tasks: Sequence[Task]) -> None:
    """As `__call__`. The pipeline has a thread of its own, as it may wait for ever for a process that was killed."""
    stop, problems = pathlib.Path(tasks[0].folder, STOP), list[BaseException]()
    thread = threading.Thread(target=self._run_pipeline, args=(tasks, problems), daemon=True)
    before, threading.excepthook = threading.excepthook, lambda event: problems.append(
      event.exc_value or SystemExit())  # also of Beam's own threads
    try:
      stop.unlink(missing_ok=True)
      thread.start()
      while thread.is_alive() and not problems:
        thread.join(SECONDS)
    finally:
      stop.touch()  # what is left of the processes ends
      thread.join(timeout=PATIENCE)
      threading.excepthook = before
    if problems and not failures(tasks[0].folder):
      what = [type(problems[0]).__name__, *str(problems[0]).strip().splitlines()][-1]
      raise RunError(f'Apache Beam failed ({what}); {stop.with_name(LOG)} may say more. Run the same command again; it '
                     'goes on') from problems[0]

  def _run_pipeline(self, tasks: Sequence[Task], problems: list[BaseException]) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    given = self._config.beam_option if self._config.runner else (f'direct_num_workers={self._workers}',)
    options = [f'--{option.lstrip("-")}' for option in given]
    runner = self._config.runner or _local_runner(pathlib.Path(tasks[0].folder))
    try:
      with beam.Pipeline(runner=runner, options=PipelineOptions(options)) as pipeline:
        pipeline | beam.Create(list(tasks), reshuffle=False) | beam.Reshuffle() | beam.Map(perform)
    except BaseException as error:
      problems.append(error)


def _check_beam(config: PrepareConfig) -> None:
  logging.getLogger().setLevel(logging.ERROR)  # it warns of what it could do with other packages
  # And tells by a traceback of a process that is gone, of which the pipeline's own error says more.
  logging.getLogger('apache_beam.runners.worker.data_plane').setLevel(logging.CRITICAL)
  try:
    import apache_beam
  except ImportError as error:
    asked = f'--runner={config.runner}' if config.runner else f'--workers={config.workers}'
    raise UserError(f'{asked}: expected Apache Beam to be installed; pip install -e \'.[beam]\'. --workers=1 needs none'
                    ) from error
  try:
    apache_beam.runners.create_runner(config.runner or 'DirectRunner')
  except (ValueError, ImportError, AttributeError) as error:
    raise UserError(f"--runner={config.runner}: expected one of Apache Beam's runners, such as FlinkRunner "
                    f'({[*str(error).splitlines(), ""][0]})') from error


def _local_runner(folder: pathlib.Path) -> Any:
  """The runner for processes on this machine: by its class, as the one of its name may hand the work on to another one,
  which it downloads.
  """
  from apache_beam.runners.portability.fn_api_runner import FnApiRunner
  from apache_beam.transforms.environments import SubprocessSDKEnvironment
  command = ['exec', shlex.quote(sys.executable), '-m', 'data_pipeline.beam.worker', shlex.quote(str(folder / STOP)),
             '>>', shlex.quote(str(folder / LOG)), '2>&1']
  return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(' '.join(command)))


@contextlib.contextmanager
def _shown(action: str, tasks: Sequence[Task]) -> Iterator[None]:
  """A context that shows on standard error how much of the tasks is done, if that is a terminal."""
  over = threading.Event()
  watcher = threading.Thread(target=_watch, args=(action, tasks, over), daemon=True)
  watcher.start()
  try:
    yield
  finally:
    over.set()
    watcher.join()


def _watch(action: str, tasks: Sequence[Task], over: threading.Event) -> None:
  with tqdm.tqdm(total=sum(task.num_bytes for task in tasks), desc=action, unit='B', unit_scale=True,
                 disable=not sys.stderr.isatty()) as bar:
    waiting = list(tasks)
    while not bar.disable and not over.wait(SECONDS):
      done = [task for task in waiting if task.result_path.exists()]
      waiting = [task for task in waiting if task not in done] if done else waiting
      bar.update(sum(task.num_bytes for task in done))
