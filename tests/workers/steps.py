"""A process that takes the same training steps as others beside it, and writes what it has learned.

    python steps.py OUT DEVICES

TF_CONFIG says which process this is; without it, the DEVICES of this process are the replicas.
"""
import os
import sys

import numpy as np
import tensorflow as tf

from charlm.training import cluster, distribution
from charlm.training.distribution import Distribution
from charlm.training.learner import StepDecisions
from charlm.training.workers import Workers
from data_pipeline import streams
from data_pipeline.rows import training_rows
from learners import RECIPES, TEXT, small

SGD = {'optimizer': 'sgd', 'schedule': 'plateau', 'warmup_steps': 0}
DROPS = dict(dropout=0.3, recurrent_dropout=0.2, zoneout=0.1)
CASES = {  # name: options of `learners.small`, steps, tolerance
  'sgd': (dict(overlap=19, **DROPS, train={**SGD, 'learning_rate': 0.5, 'clip_percentile': 50.0, 'average': 'ema'}),
          20, 1e-5),
  'adam': (dict(overlap=5, **DROPS), 20, 1e-4),
  # Tokens that are drawn differ where a probability has rounded the other way; so here are the gradients of one step.
  **{name: ({**recipe, 'train': {**recipe['train'], **SGD, 'learning_rate': 1.0, 'clip_norm': 0.0}}, 1, 1e-5)
     for name, recipe in zip(('professor_forcing', 'multi_step'), RECIPES, strict=True)}}


def spread(devices):
  """The replicas: of the processes of TF_CONFIG, or of this one."""
  if 'TF_CONFIG' not in os.environ:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * devices)
    return Distribution(distribution.make_strategy('mirrored' if devices > 1 else 'default'))
  here = cluster.of_strategy('multi_worker')
  return Distribution(distribution.make_strategy('multi_worker', here), Workers(here))


def collectives(one, batch, carry):
  """How many sums over the replicas a step makes, in its graph."""
  told = StepDecisions(*tf.constant([0.5, 0.8, 1.0]))
  graph = one._step.get_concrete_function(batch, carry, told).graph
  return sum(op.type.startswith('CollectiveReduce') for op in graph.get_operations())


def learned(replicas, options, steps):
  """-> {name: array} of what is left after so many steps."""
  one = small(distribution=replicas, **options)
  rows, overlap = training_rows(len(TEXT), one.batch_size), options.get('overlap', 0)
  batches = iter(replicas.batches(lambda context: streams.training_stream(
      TEXT, rows, length=20, stride=20 - overlap, context=context)))
  carry, nats, found = one.initial_carry(), [], {}
  for step in range(steps):
    batch = next(batches)
    if not step and replicas.workers.count > 1:
      found['collectives'] = np.array(collectives(one, batch, carry))
    metrics, carry = one.step(batch, carry, StepDecisions(0.5, 0.8, 1 / (1 + step)))
    nats.append(float(metrics['nats'] / metrics['tokens']))
  weights = [*one.model.variables, *(v for o in one.objectives for v in getattr(o, 'weights', []))]
  return found | {'nats': np.array(nats), **{f'weight_{i}': w.numpy() for i, w in enumerate(weights)},
                  **{f'average_{i}': w.numpy() for i, w in enumerate(one.evaluated.variables)},
                  **{f'carry_{i}': a for i, a in enumerate(one.join_carry(carry))}}


def main(out, devices):
  replicas = spread(int(devices))
  found = {f'{case}/{name}': array for case, (options, steps, _) in CASES.items()
           for name, array in learned(replicas, options, steps).items()}
  if replicas.workers.is_chief:
    np.savez(out, replicas=replicas.replicas, **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
