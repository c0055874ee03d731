"""One training step and one evaluation pass, compiled, under a tf.distribute strategy."""
import copy
import functools

import numpy as np
import tensorflow as tf

from charlm.generation import rollout
from charlm.network import dropout, losses, native
from charlm.training import optimizer
from charlm.training.objectives import professor_forcing
from flags.training import TrainConfig


@functools.cache
def make_strategy(name):
  """default: one device. mirrored: all GPUs, or all logical CPU devices, of this machine.

  One of each in a process: the collective operations of two MirroredStrategies get in each other's way.
  """
  if name == 'default':
    return tf.distribute.get_strategy()
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
  return tf.distribute.MirroredStrategy([d.name for d in devices])


class Learner:
  """Trains and evaluates a model that was made under the strategy's scope.

  The carry is the recurrent state: a nest of [rows of a replica, H], an argument and a result of every step.
  `judged` is the model to evaluate, keep and use: the one that is trained or, under --average, a copy of it that holds
  the average of its weights.
  """

  def __init__(self, model, config: TrainConfig | None = None, *, strategy, batch_size=1, longest=1, overlap=0,
               recurrence='auto'):
    """batch_size: rows of all replicas. longest: tokens of the longest chunk. overlap: T - S. recurrence: a flag.

    One that only evaluates needs no `config`, and has no optimizer, which takes twice the memory of the weights.
    """
    self.model, self.config, self.strategy = model, config, strategy
    self.batch_size, self.longest, self.overlap = batch_size, longest, overlap
    self.replicas = strategy.num_replicas_in_sync
    self.native_kernels = native.chosen(recurrence, model.config)
    self.judged, self.professor = model, None
    if config:
      with strategy.scope():
        self.optimizer = optimizer.make_optimizer(config, model.trainable_variables)
        self.clip = optimizer.Clipper(config)
        if config.professor_forcing:
          self.professor = professor_forcing.Professor(config, model, recurrence)
        if config.average != 'none':
          self.judged = copy.deepcopy(model)
    # With one replica the whole step is one XLA program. Reducing over replicas and updating mirrored variables
    # cannot be compiled, so with several only the gradient, which is nearly all of the work, is.
    self._gradients = tf.function(self._replica_gradients, jit_compile=True, autograph=False)
    self._sums = tf.function(self._replica_sums, jit_compile=True, autograph=False)
    self._step = tf.function(self._train, jit_compile=self.replicas == 1, autograph=False)
    self._evaluate = tf.function(self._score, autograph=False)

  @property
  def variables(self):
    """What a step depends on and changes beside the models and the carry."""
    others = self.professor.variables if self.professor else []
    return [*self.optimizer.variables, *self.clip.variables, *others]

  def initial_carry(self, batch_size=None):
    """The state of rows where text begins; for training, of each replica's share of the batch."""
    rows = (batch_size or self.batch_size) // self.replicas
    return self.distribute_carry([np.zeros([rows * self.replicas, *s.shape[1:]], 'float32')
                                  for s in tf.nest.flatten(self.model.initial_state(1))])

  def distribute_carry(self, carry):
    """List of [B, H] arrays -> what `step` takes: each replica's rows. The opposite of `gather_carry`."""
    nest = self.model.initial_state(1)

    def share(context):
      rows = len(carry[0]) // self.replicas
      first = context.replica_id_in_sync_group * rows
      return tf.nest.pack_sequence_as(nest, [tf.constant(c[first:first + rows]) for c in carry])

    if self.replicas == 1:
      return tf.nest.pack_sequence_as(nest, [tf.constant(c) for c in carry])
    return self.strategy.experimental_distribute_values_from_function(share)

  def gather_carry(self, carry):
    """What `step` returned -> list of [B, H] arrays."""
    shares = [tf.nest.flatten(share) for share in self.strategy.experimental_local_results(carry)]
    return [np.concatenate([s.numpy() for s in tensor]) for tensor in zip(*shares, strict=True)]

  def step(self, batch, carry, progress, *, rate_scale=1.0, average_share=1.0):
    """Trains on one chunk of every row.

    Args:
      batch: tokens [B, T+1], reset [B], weight [B, T]; per replica where there are several.
      carry: the state before the chunk.
      progress: share of the run that is done, 0 to 1, for the schedule.
      rate_scale: what plateaus have left of the learning rate.
      average_share: share of the new weights in the average of --average.

    Returns:
      carry after S = T - overlap tokens, and metrics: `nats` (sum), `tokens` (count), `gradient_norm` (before
      clipping), `learning_rate`, with --multi_step `multi_step_nats` (sum), with --professor_forcing
      `discriminator_accuracy`; scalar tensors over all replicas.
    """
    carry, metrics = self._step(batch, carry, *(tf.constant(x, tf.float32)
                                                for x in (progress, rate_scale, average_share)))
    return carry, tf.nest.map_structure(lambda m: self.strategy.experimental_local_results(m)[0], metrics)

  def _train(self, batch, carry, progress, rate_scale, average_share):
    step = tf.cast(self.optimizer.iterations.value, tf.int32)
    rate = optimizer.learning_rate(self.config, step, progress, rate_scale)
    self.optimizer.learning_rate.assign(rate)
    if self.professor:
      self.professor.prepare()

    def replica_step(batch, carry):
      replica = tf.distribute.get_replica_context()
      gradients, carry, sums = self._gradients(batch, carry, step, replica.replica_id_in_sync_group, progress)
      (gradients, taught), sums = replica.all_reduce('SUM', (gradients, sums))
      if self.professor:
        right, judged = (sums.pop(name) for name in ('right', 'judged'))
        sums['discriminator_accuracy'] = self.professor.learn(taught, right, judged, self.replicas)
      gradients, norm = self.clip(gradients, step)
      # Keras adds up what the replicas hand it, which is the same in all.
      self.optimizer.apply([g / self.replicas for g in gradients], self.model.trainable_variables)
      return carry, {**sums, 'gradient_norm': norm, 'learning_rate': rate}

    result = self.strategy.run(replica_step, (batch, carry))
    if self.judged is not self.model:
      for average, new in zip(self.judged.variables, self.model.variables, strict=True):
        # A sum of two, and not a step towards the new, so that a share of 1 gives the very same bits.
        self.strategy.extended.update(average, lambda a, n: a.assign((1 - average_share) * a + average_share * n),
                                      args=(new,), group=False)
    return result

  def _replica_gradients(self, batch, carry, step, replica, progress):
    rows, length = batch.weight.shape
    config, seed, place = self.model.config, tf.stack([self.config.seed, step]), (replica * rows, self.batch_size)
    with tf.GradientTape() as tape:
      state = self.model.reset(carry, batch.reset, seed=seed, place=place)
      features, states, _ = self.model.read(batch.tokens[:, :-1], state, training=True, seed=seed, rows=place,
                                            native_kernels=self.native_kernels, starts=batch.starts)
      logits = self.model.logits(features, self.native_kernels)
      nats = losses.nats(logits, batch.tokens[:, 1:]) * batch.weight
      loss = tf.reduce_sum(nats)
      sums = {'nats': loss, 'tokens': tf.reduce_sum(batch.weight)}
      if self.config.multi_step:
        self_fed, seen = self._self_fed(batch, states, logits, progress, seed, place)
        # The first token of the chunk has no prediction before it: it counts as observed in both shares.
        sums['multi_step_nats'] = tf.reduce_sum(nats[:, 0]) + self_fed
        loss += self.config.multi_step_weight * (sums['multi_step_nats'] - loss)
        if self.professor:
          loss += self.config.multi_step * self.professor.loss(seen)  # for each token of a stretch
      if config.activation_penalty:
        loss += config.activation_penalty * losses.activation_penalty(features, batch.weight)
      if config.temporal_penalty:
        loss += config.temporal_penalty * losses.temporal_penalty(tf.nest.flatten(states[-1])[0], batch.weight,
                                                                   batch.starts)
      # Summed over time, so that each token weighs the same in chunks of any length.
      loss /= self.batch_size * self.longest

    # Made dense here: slices that leave this function make XLA compile again at every step.
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self.model.trainable_variables)]
    taught = []
    if self.professor:
      taught, sums['right'], sums['judged'] = self.professor.gradients(seen)
    carry = tf.nest.map_structure(lambda s: s[length - self.overlap - 1], states)
    return (gradients, taught), carry, sums

  def _self_fed(self, batch, states, logits, progress, seed, place):
    """-> nats of the targets in stretches from these states [T, B, H] and logits [B, T, V], summed; Behaviours."""
    stretches, rows = rollout.cut(batch, states, logits, self.config.multi_step), batch.tokens.shape[0]
    own, numbers = rollout.draws(self.config, stretches.inputs.shape, rows, progress, seed=seed, rows=place)
    begin = self.model.initial_state(rows, dropout.Draws(self.model.config, rows, training=True, seed=seed, rows=place))
    initial = tf.nest.map_structure(lambda s: tf.tile(s, [own.shape[1] // rows, 1]), begin)
    run = functools.partial(rollout.run, self.model.stepper(), stretches, numbers=numbers, initial=initial,
                            expected=self.config.multi_step_input == 'expected')
    free, seen = run(own), None
    if self.professor:
      whole = tf.cast(tf.reduce_all(stretches.weight > 0, 0), tf.float32)
      seen = professor_forcing.behaviours(run(tf.zeros_like(own)), free, whole)
    return tf.reduce_sum(losses.nats(free[0], stretches.targets) * stretches.weight), seen

  def evaluate(self, batches, batch_size):
    """-> {'nats': sum, 'tokens': count} over all batches, in float64."""
    carry = self.initial_carry(batch_size)
    sums = []
    for batch in batches:
      carry, part = self._evaluate(batch, carry)
      sums.extend(self.strategy.experimental_local_results(part))
    nats, tokens = np.sum(np.array(sums, np.float64), 0)
    return {'nats': float(nats), 'tokens': int(tokens)}

  def _score(self, batch, carry):
    def replica_score(batch, carry):
      return self._sums(batch, carry, tf.distribute.get_replica_context().replica_id_in_sync_group)

    return self.strategy.run(replica_score, (batch, carry))

  def _replica_sums(self, batch, carry, replica):
    del replica  # there so that each replica compiles a function of its own, with its own variables
    logits, _, carry = self.judged(batch.tokens[:, :-1], self.judged.reset(carry, batch.reset),
                                   native_kernels=self.native_kernels, starts=batch.starts)
    nats = tf.reduce_sum(losses.nats(logits, batch.tokens[:, 1:]) * batch.weight)
    return carry, (nats, tf.reduce_sum(batch.weight))
