"""A trained model as a SavedModel that TF Serving loads, and that needs nothing of charlm.

    EXPORT_DIR/<integer>/saved_model.pb, variables/     what TF Serving reads
    EXPORT_DIR/<integer>/assets.extra/charlm.json       facts about the model

There is no jit-compiled function in it, because TF Serving has XLA switched off by default. The weights are
constants, centred and tabulated for the step function once, here, and not in each request.
"""
import errno
import json
import os
import pathlib

import tensorflow as tf

from charlm.generation import decoding
from data_pipeline import atomic
from flags.errors import RunError, UserError
from flags.generation import SampleConfig

DEFAULT_TOKENS = 200  # that serving_default writes
MOST_TOKENS = 1 << 16  # that one request may ask for; it bounds the memory of a request


class ServedModel(tf.Module):
  """The signatures. A row's result depends on that row and its seed alone."""

  def __init__(self, model, tokenizer):
    super().__init__('charlm')
    self._tokenizer = tokenizer
    self._trackable = tokenizer.trackable  # a SavedModel keeps what it can reach from here
    self._advance, self._initial = model.stepper(), model.initial_state(1)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'prompt')], autograph=False)
  def serving_default(self, prompt):
    """prompt [B] -> {'text': [B]}: DEFAULT_TOKENS tokens with the options that charlm-sample has by default."""
    def each_row(value, dtype):
      return tf.fill(tf.shape(prompt), tf.constant(value, dtype))

    options = SampleConfig()
    written = self.generate(prompt, each_row(DEFAULT_TOKENS, tf.int32), each_row(options.temperature, tf.float32),
                            each_row(options.top_k, tf.int32), each_row(options.top_p, tf.float32),
                            each_row(options.seed, tf.int64))
    return {'text': written['text']}

  @tf.function(input_signature=[
      tf.TensorSpec([None], tf.string, 'prompt'), tf.TensorSpec([None], tf.int32, 'max_new_tokens'),
      tf.TensorSpec([None], tf.float32, 'temperature'), tf.TensorSpec([None], tf.int32, 'top_k'),
      tf.TensorSpec([None], tf.float32, 'top_p'), tf.TensorSpec([None], tf.int64, 'seed')], autograph=False)
  def generate(self, prompt, max_new_tokens, temperature, top_k, top_p, seed):
    """All [B]; the options as in `decoding.generate`, max_new_tokens from 0 to MOST_TOKENS.

    -> {'text': what was written, without the prompt, as valid UTF-8; 'text_bytes': the same as the model wrote it;
    'num_tokens': written; 'log_prob': nats, of what was written given the prompt}.
    """
    count = tf.clip_by_value(max_new_tokens, 0, MOST_TOKENS)
    tokens, lengths = decoding.encode_prompts_tf(self._tokenizer, prompt)
    state = tf.nest.map_structure(lambda s: tf.repeat(s, tf.shape(prompt)[0], 0), self._initial)
    written = decoding.complete(self._advance, state, tokens, lengths, length=tf.maximum(tf.reduce_max(count), 1),
                                temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    own = tf.sequence_mask(count, tf.shape(written.tokens)[1])
    text = self._tokenizer.decode_tf(tf.RaggedTensor.from_tensor(written.tokens, count))
    return {'text': valid_utf8(text), 'text_bytes': text, 'num_tokens': count,
            'log_prob': tf.reduce_sum(tf.where(own, written.log_probs, 0.0), 1)}


def valid_utf8(text):
  """[B] string -> the same, less an unfinished character at the end, and U+FFFD for other bytes that are wrong."""
  valid = tf.strings.unicode_transcode(text, 'UTF-8', 'UTF-8', errors='replace')
  whole = tf.strings.regex_full_match(text, '\\C*\ufffd')  # the model wrote this U+FFFD; \C is any byte
  return tf.where(whole, valid, tf.strings.regex_replace(valid, '\ufffd$', ''))


def export(model, tokenizer, export_dir, *, version=0, facts):
  """Writes the SavedModel.

  Args:
    model: a LanguageModel.
    tokenizer: its tokenizer.
    export_dir: made where it is missing.
    version: name of the model's folder; one more than the newest there if 0.
    facts: what else charlm.json shall say, {name: JSON value}.

  Returns:
    pathlib.Path of EXPORT_DIR/<version>. It appears by rename, whole or not at all.

  Raises:
    UserError: the version exists, or the folder cannot be made.
    RunError: the model could not be written.
  """
  parent = pathlib.Path(export_dir)
  try:
    parent.mkdir(parents=True, exist_ok=True)
    versions = [int(p.name) for p in parent.iterdir() if p.name.isdecimal()]
    version = version or max(versions, default=0) + 1
    refuse = UserError(f'--version={version}: {parent} has it already; expected a new version, such as '
                       f'{max(versions, default=0) + 1}')
    if version in versions:
      raise refuse
    if not os.access(parent, os.W_OK | os.X_OK):
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
  except OSError as error:
    raise UserError(f'--export_dir={export_dir}: expected a folder to write to ({error.strerror})') from error
  target = parent / str(version)
  try:
    with atomic.folder(target) as folder:
      _write(model, tokenizer, folder, facts)
  except (OSError, tf.errors.OpError) as error:
    if target.exists():  # another export was quicker
      raise refuse from None
    raise RunError(f'{parent}: the model could not be written ({error})') from error
  return target


def _write(model, tokenizer, folder, facts):
  served = ServedModel(model, tokenizer)
  signatures = {'serving_default': served.serving_default, 'generate': served.generate}
  tf.saved_model.save(served, str(folder), signatures)
  extra = folder / 'assets.extra'
  extra.mkdir()
  options = SampleConfig()
  facts = {'tokenizer': tokenizer.kind, 'vocab_size': tokenizer.vocab_size, 'most_new_tokens': MOST_TOKENS,
           'serving_default': {'max_new_tokens': DEFAULT_TOKENS, 'temperature': options.temperature,
                               'top_k': options.top_k, 'top_p': options.top_p, 'seed': options.seed}, **facts}
  (extra / 'charlm.json').write_text(json.dumps(facts, indent=2) + '\n')
