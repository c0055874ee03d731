"""The training loop: when to train, report, evaluate, sample, save and stop."""
import contextlib
import math
import os
import signal
import sys
import time

import numpy as np
import tensorflow as tf
import tqdm

from charlm.evaluation import scoring
from charlm.network.model import LanguageModel
from charlm.training.learner import Learner, make_strategy
from charlm.training.loss_monitor import Judge
from charlm.workdir import checkpoint, metrics, plot
from data_pipeline import streams
from flags.config import Config
from flags.errors import RunError, UserError

# The numbers of a step are looked at in groups, so that an accelerator need not wait for the host.
LOOK_EVERY = 10


class Trainer:
  """One training run in a workdir, from its newest checkpoint on.

  `state` is all that the next step depends on beside the weights, the optimizer and the carry; all four are in
  each checkpoint. A run that was killed and started again gives the same bits as one that was not.
  """

  def __init__(self, config: Config, workdir, train_file, valid_file, identity, *, started, write_sample=None,
               profile=False, recurrence='auto', weights=None):
    """Sets up, and restores the newest checkpoint if there is one. Writes nothing; `run` needs the workdir to exist.

    Args:
      config: all choices.
      workdir: the folder of the run.
      train_file, valid_file: TokenFiles; valid_file may be None.
      identity: what the weights belong to; `vocab_size`, and whatever else each checkpoint shall name.
      started: time.perf_counter() at the start of the command, for --max_minutes.
      write_sample: model -> bytes, text to print and keep now and then; None writes none.
      profile: whether to profile some steps.
      recurrence: of --recurrence.
      weights: arrays of a checkpoint to start from; None starts afresh.
    """
    self.config, self.workdir, self.identity, self.write_sample = config, workdir, identity, write_sample
    self.started, self.train_file, self.valid_file = started, train_file, valid_file
    for flag in () if valid_file else config.train.needing_validation():
      raise UserError(f'{flag}: --corpus={config.data.corpus} has no validation split to wait for; expected '
                      '--valid_fraction to cut one, such as --valid_fraction=0.1')
    config.data.check_recurrence(recurrence)
    self.strategy = make_strategy(config.train.strategy)
    if config.data.batch_size % self.strategy.num_replicas_in_sync:
      raise UserError(f'--batch_size={config.data.batch_size}: expected a multiple of the '
                      f'{self.strategy.num_replicas_in_sync} devices of --strategy={config.train.strategy}')
    copies = 4 + (config.train.average != 'none')
    needed = 4 * copies * config.model.least_weights
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > memory:  # asking for it would get the process killed without a word
      raise UserError(f'--units={config.model.units} --layers={config.model.layers} --input_units='
                      f'{config.model.input_units} --embedding_size={config.model.embedding_size}: expected a smaller '
                      f'model: weights, gradients and optimizer of this one take {needed / 2**30:,.0f} GiB and more, '
                      f'the machine has {memory / 2**30:,.0f}')
    with self.strategy.scope():
      self.model = LanguageModel(config.model, identity['vocab_size'], config.train.seed)
    if weights:
      checkpoint.restore('model', self.model.variables, weights)
    self.learner = Learner(self.model, config.train, strategy=self.strategy, batch_size=config.data.batch_size,
                           longest=max(config.data.lengths), overlap=config.data.chunk_overlap,
                           recurrence=recurrence)
    self.rows = streams.training_rows(train_file.num_tokens, config.data.batch_size)
    config.train.check_epochs([self.rows.steps(length=length, stride=length - config.data.chunk_overlap)
                               for length in config.data.lengths])
    self.carry, self.judge = self.learner.initial_carry(), Judge(config.train)
    self.state = {'step': 0, 'tokens': 0, 'epoch': 0, 'offset': 0, 'seconds': 0.0, 'finished': '',
                  'interval': metrics.StepMetrics().asdict(), **self.judge.state()}
    self.pending, self.interrupted, self.saved_step, self.shown = [], False, None, ''
    self.evaluation_seconds = None  # of the last one
    self.speed = None  # tokens per second of training, as last measured
    found = checkpoint.newest(workdir)
    if found:
      self._restore(*found)
    elif checkpoint.best_path(workdir).exists():  # of a run that was killed before its first checkpoint
      checkpoint.check_identity(workdir, identity, checkpoint.read(checkpoint.best_path(workdir))[1])
    self.interval = metrics.StepMetrics(**self.state['interval'])
    self.judge = Judge(config.train, **{name: self.state[name] for name in self.judge.state()})
    first = self.state['step'] + LOOK_EVERY  # the first steps compile
    self.profiled = range(first, first + LOOK_EVERY) if profile else range(0)

  def _variables(self):
    """{name in a checkpoint: variables}: all that a step changes, beside the carry. 'model' is what is used later."""
    averaged = self.learner.judged is not self.model
    return {'model': self.learner.judged.variables, 'optimizer': self.learner.variables,
            **({'training': self.model.variables} if averaged else {})}

  def _carry_keys(self):
    return checkpoint.carry_keys(self.model.initial_state(1))

  def _restore(self, arrays, state):
    checkpoint.check_identity(self.workdir, self.identity, state)
    for name, variables in self._variables().items():
      checkpoint.restore(name, variables, arrays)
    self.carry = self.learner.distribute_carry([arrays[key] for key in self._carry_keys()])
    self.state = {name: state[name] for name in self.state}
    self.saved_step = self.state['step']
    self.started -= self.state['seconds']

  def _save(self):
    self._look()
    self.state.update(seconds=self.seconds(), interval=self.interval.asdict(), **self.judge.state())
    arrays = dict(zip(self._carry_keys(), self.learner.gather_carry(self.carry), strict=True))
    for name, variables in self._variables().items():
      arrays |= checkpoint.collect(name, variables)
    if not all(np.isfinite(a).all() for a in arrays.values()):  # the last update has not met a loss yet
      raise self._not_finite(f'step {self.state["step"]}: the weights are not finite')
    checkpoint.save(self.workdir, self.state['step'], arrays, self.state | self.identity)
    self.saved_step = self.state['step']

  # Where the run is.

  def seconds(self):
    return time.perf_counter() - self.started

  def epochs(self):
    return self.rows.epochs(streams.Cursor(self.state['epoch'], self.state['offset']))

  def progress(self):
    """Share of the run that is done, 0 to 1.

    It follows the clock only where --max_minutes is the one limit, because time is not the same twice.
    """
    train = self.config.train
    if not train.steps and not train.epochs and train.max_minutes:
      return min(1.0, self.seconds() / self.training_seconds())
    shares = [self.state['step'] / train.steps if train.steps else 0,
              self.epochs() / train.most_epochs if train.most_epochs else 0]
    return min(1.0, max(shares))

  def training_seconds(self):
    """--max_minutes in seconds, less the evaluation at the end: half of them at most.

    That takes as long as the one before; the first is guessed to be three times as fast as training, once it is known
    how fast that is.
    """
    seconds, last = 60 * self.config.train.max_minutes, self.evaluation_seconds
    if last is None:
      last = self.valid_file.num_tokens / (3 * self.speed) if self.valid_file and self.speed else 0
    return seconds - min(last, seconds / 2)

  def _why_stop(self):
    train = self.config.train
    if train.max_minutes and self.seconds() >= self.training_seconds():
      return f'{train.max_minutes:g} minutes are over'
    return self.judge.why_stop() or ('all steps are done' if self.progress() >= 1 else '')

  # The run.

  def run(self):
    """Trains until a limit is reached, then draws the plot.

    Raises RunError where the loss is not finite any more or a file cannot be written, KeyboardInterrupt after
    Ctrl-C or SIGTERM, once all is saved.
    """
    try:
      with metrics.MetricWriter(self.workdir, self.state['step']) as self.writer:
        if not self.state['finished']:
          with self._signals(), self._bar() as bar:
            self._train(bar)
        if self.profiled and self.state['step'] <= self.profiled[0]:
          print('notice: --profile: the run had too few steps left for a profile', file=sys.stderr)
        plot.draw(self.workdir)
    except (tf.errors.InternalError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
      raise  # nothing that a file system says
    except (OSError, tf.errors.OpError) as error:
      what = f'{error.filename}: {error.strerror}' if getattr(error, 'filename', None) else str(error).splitlines()[0]
      if 'OOM' in what or 'out of memory' in what.lower():  # a full disk has the same class of error
        raise RunError(f'step {self.state["step"] + 1} needs more memory than there is ({what}). Try a smaller '
                       '--batch_size, --chunk_length or --units in another --workdir') from error
      good = f'of step {self.saved_step}' if self.saved_step else 'not made yet'
      raise RunError(f'--workdir={self.workdir} cannot be written ({what}). The last good checkpoint is {good}. '
                     'Mend this, then run the same command again') from error

  def _train(self, bar):
    train, data = self.config.train, self.config.data
    chunks, length = None, 0
    while not self.state['finished']:
      progress, cursor = self.progress(), streams.Cursor(self.state['epoch'], self.state['offset'])
      compiles = self._length(progress) != length
      if compiles:
        length = self._length(progress)
        chunks = self._chunks(length, cursor.offset)
      began = time.perf_counter()
      with self.writer.profile(self.state['step'], self.profiled):
        self.carry, numbers = self.learner.step(
            next(chunks), self.carry, progress, rate_scale=self.judge.rate_scale,
            average_share=self.judge.average_share(self.state['step']))
      self.pending.append(numbers)
      epoch, offset = self.rows.after(cursor, length=length, stride=length - data.chunk_overlap)
      self.state.update(step=self.state['step'] + 1, epoch=epoch, offset=offset)
      if epoch > cursor.epoch:
        self._look()
        self.judge.end_epoch()
      stop = self._why_stop()
      report, evaluate, save = (bool(stop) or self._due(every) for every in (
          train.report_every, train.eval_every, train.save_every))
      if report or evaluate or save or self.interrupted or self._due(LOOK_EVERY):
        self._look()
      if not compiles:  # which is no measure of speed
        self.interval.add_time(data.batch_size * length, time.perf_counter() - began)
        self.speed = self.interval.tokens_per_second()
      self._show(bar)
      if evaluate and self.valid_file:
        self._report(bar, valid_nats_per_token=self._evaluate())
        stop = stop or self._why_stop()
      elif report:
        self._report(bar)
      if self.write_sample and (self._due(train.sample_every) or (stop and train.sample_every)):
        self._sample(bar)
      self.state['finished'] = stop
      if stop or save or self.interrupted:
        self._save()
      if self.interrupted and not stop:
        bar.close()
        print(f'Stopped after step {self.state["step"]}; all is saved. The same command goes on from there.',
              file=sys.stderr)
        raise KeyboardInterrupt

  def _due(self, every):
    return bool(every) and self.state['step'] % every == 0

  def _length(self, progress):
    lengths = self.config.data.lengths
    return lengths[min(int(progress * len(lengths)), len(lengths) - 1)]

  def _chunks(self, length, offset):
    file = self.train_file
    tokens = streams.mapped(file.path, file.dtype, file.num_tokens)

    def make(context):
      return streams.training_stream(tokens, self.rows, length=length, offset=offset, context=context,
                                     stride=length - self.config.data.chunk_overlap,
                                     starts=streams.mapped_starts(file))

    return iter(streams.distribute(self.strategy, make))

  def _look(self):
    """Takes in the numbers of the steps since the last look. Raises RunError at one that is not finite."""
    first = self.state['step'] - len(self.pending) + 1
    for step, values in enumerate(self.pending, first):
      numbers = {name: float(value) for name, value in values.items()}
      if not self.interval.add(**numbers):
        raise self._not_finite(f'step {step}: the loss is {numbers["nats"] / numbers["tokens"]} nats with gradient '
                               f'norm {numbers["gradient_norm"]}')
      self.state['tokens'] += int(numbers['tokens'])
      self.judge.trained(numbers['nats'], numbers['tokens'])
    self.pending = []

  def _not_finite(self, what):
    good = [str(path) for path in checkpoint.saved(self.workdir)[:1]]
    where = ' in another --workdir' if good else ''
    return RunError(f'{what}; the last good checkpoint is {"".join(good) or "not made yet"}. Try a lower '
                    f'--learning_rate or --clip_norm{where}')

  def _report(self, bar, **measured):
    line = {'step': self.state['step'], 'epoch': round(self.epochs(), 4), 'tokens': self.state['tokens'],
            'seconds': round(self.seconds(), 3), **self.interval.result(), **measured}
    self.interval = metrics.StepMetrics()
    self.writer.write(line)
    if bar.disable:  # standard error is a file
      print(_words(line), file=sys.stderr)

  def _evaluate(self):
    """-> nats per token of the validation split. Keeps the weights where they are the best so far."""
    began = time.perf_counter()
    sums = scoring.evaluate_file(self.learner, self.valid_file)
    self.evaluation_seconds = time.perf_counter() - began
    nats = sums['nats'] / sums['tokens']
    if not math.isfinite(nats):
      raise self._not_finite(f'step {self.state["step"]}: the validation loss is {nats} nats')
    if self.judge.validated(nats, self.state['step']):
      checkpoint.write(checkpoint.best_path(self.workdir), checkpoint.collect('model', self.learner.judged.variables),
                       self.state | self.judge.state() | self.identity)
    return nats

  def _sample(self, bar):
    text = self.write_sample(self.learner.judged)
    self.writer.write_sample(self.state['step'], text)
    bar.write(f'--- step {self.state["step"]} writes:\n{text.decode("utf-8", "replace")}\n---', file=sys.stderr)

  # The terminal.

  def _bar(self):
    layout = '{percentage:3.0f}% |{bar}| {desc}, {elapsed} so far, {remaining} left'
    return tqdm.tqdm(total=1.0, initial=self.progress(), bar_format=layout, disable=not sys.stderr.isatty())

  def _show(self, bar):
    if self.interval.timed_seconds and self.interval.tokens:
      self.shown = f', {self.interval.nats_per_token():.3f} nats, {self.interval.tokens_per_second():,.0f} tokens/s'
    best = '' if self.judge.best_nats is None else f', best valid {self.judge.best_nats:.3f}'
    bar.set_description_str(f'step {self.state["step"]}{self.shown}{best}', refresh=False)
    bar.update(self.progress() - bar.n)

  @contextlib.contextmanager
  def _signals(self):
    """Ctrl-C and SIGTERM ask for a stop after the step; a second Ctrl-C stops at once."""
    def ask(number, frame):
      if self.interrupted:
        raise KeyboardInterrupt
      self.interrupted = True
      os.write(2, b'\nStopping after this step, or evaluation; once more stops at once, without saving\n')

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


def _words(line):
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
