"""What workers tell each other; here they are threads, and a table takes the place of TensorFlow's collectives."""
import threading

import numpy as np
import pytest
import tensorflow as tf

from charlm.training.cluster import Cluster
from charlm.training.decisions import Due, HandedOn
from charlm.training.learner import StepDecisions
from charlm.training.workers import SHORT, Workers
from flags.errors import RunError

COUNT = 3


class Fake(Workers):
  """A worker that finds what the others have in a table that all share."""

  def __init__(self, index, table, barrier):
    super().__init__(Cluster(('a:1', 'b:1', 'c:1'), index))
    self.table, self.barrier = table, barrier

  def gather(self, rows):
    self.table[self.index] = rows
    self.barrier.wait(10)
    found = np.concatenate([self.table[k] for k in range(COUNT)])
    self.barrier.wait(10)
    return found


def together(does):
  """does(worker) in each of three workers -> what it has returned or raised."""
  table, barrier, found = {}, threading.Barrier(COUNT), {}

  def run(index):
    try:
      found[index] = does(Fake(index, table, barrier))
    except Exception as error:
      found[index] = error

  threads = [threading.Thread(target=run, args=(k,)) for k in range(COUNT)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return [found[k] for k in range(COUNT)]


@pytest.mark.parametrize('size', [0, 1, SHORT - 2, SHORT - 1, SHORT, 5000])
def test_messages_of_any_length_reach_all(size):
  said = [['x' * (size * (k == 1)), k, None, 1 / 3] for k in range(COUNT)]
  assert together(lambda worker: worker.exchange(said[worker.index])) == [said] * COUNT


def test_the_chief_alone_decides_and_hears_of_the_signals_of_others():
  class Decides:
    steps_per_call = 1

    def before_call(self, step, epochs):
      return [StepDecisions(0.1, 1.0, 0.5)]

    def after_step(self, step, epochs, *, interrupted, taken):
      return Due(collect=True, leave=interrupted, stop='')

  def does(worker):
    decisions = HandedOn(Decides(), worker)
    if not worker.is_chief:
      decisions._decisions = None  # which would fail if it were asked
    told = decisions.before_call(1, [0.0])
    return told, [decisions.after_step(step, 0.1, interrupted=worker.index == 2) for step in range(2)]

  told, due = [StepDecisions(0.1, 1.0, 0.5)], [Due(collect=True), Due(collect=True, leave=True)]
  assert together(does) == [(told, due)] * COUNT


def test_weights_that_differ_are_refused():
  def does(worker):
    worker.check_same('weights', lambda: {'a': np.zeros(3), 'b': np.float32([0.5])}, 'Why?')
    worker.check_same('weights', lambda: {'a': np.full(3, 1e-9 if worker.index == 2 else 0)}, 'Why?')

  for error in together(does):
    assert isinstance(error, RunError) and 'worker 2 has other weights than the chief' in str(error)


def test_alone_nothing_is_told():
  worker, value = Workers(), object()
  assert worker.exchange(value) == [value] and worker.of_chief(lambda: value) is value and worker.gather(value) is value
  assert [worker.decide(lambda asked: asked, given) for given in (False, True, False)] == [False, True, True]


@pytest.mark.parametrize('said, who', [
  ('Collective ops is aborted by: x /job:worker/replica:0/task:2 while', 'worker 2 (of 0 to 2)'),
  ('device_/job:worker/replica:0/task:0/device:CPU:0}} aborted: The tasks have crashed', 'another worker'),
  ('/job:worker/task:1 and /job:worker/replica:0/task:2', 'another worker')])
def test_which_worker_is_gone(said, who):
  worker = Workers(Cluster(('a:1', 'b:1', 'c:1'), 0))
  with pytest.raises(RunError, match='Start all workers again') as error, worker.failures():
    raise tf.errors.UnavailableError(None, None, said)
  assert f'{who} does not answer' in str(error.value)
  with pytest.raises(tf.errors.NotFoundError), worker.failures():  # which says nothing of other workers
    raise tf.errors.NotFoundError(None, None, said)
  with pytest.raises(tf.errors.UnavailableError), Workers().failures():
    raise tf.errors.UnavailableError(None, None, said)
