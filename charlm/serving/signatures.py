"""The signatures of a served model: what a client may ask of it.

They hold no jit-compiled function, because TF Serving has XLA switched off by default. The weights are constants,
centred and tabulated for the step function once, when the model is exported, and not in each request.
"""
import tensorflow as tf

from charlm.generation.decoding import prefill_and_generate
from charlm.generation.prompts import encode_prompts_tf
from charlm.network.model import LanguageModel
from data_pipeline.tokenizers.base import Tokenizer
from flags.generation import SampleConfig

DEFAULT_TOKENS = 200  # that serving_default writes
MAX_TOKENS = 1 << 16  # that one request may ask for; it bounds the memory of a request


class ServedModel(tf.Module):
  """The signatures. A row's result depends on that row and its seed alone."""

  def __init__(self, model: LanguageModel, tokenizer: Tokenizer):
    """model: on a backend that runs in any function. tokenizer: the model's."""
    super().__init__('charlm')
    self._tokenizer = tokenizer
    self._trackable = tokenizer.trackable  # a SavedModel keeps what it can reach from here
    self._advance, self._initial = model.stepper(), model.initial_state(1)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'prompt')], autograph=False)
  def serving_default(self, prompt: tf.Tensor) -> dict[str, tf.Tensor]:
    """prompt [B] -> {'text': [B]}: DEFAULT_TOKENS tokens with the options that charlm-sample has by default."""
    def each_row(value: float, dtype: tf.DType) -> tf.Tensor:
      return tf.fill(tf.shape(prompt), tf.constant(value, dtype))

    options = SampleConfig()
    generated = self.generate(prompt, each_row(DEFAULT_TOKENS, tf.int32), each_row(options.temperature, tf.float32),
                              each_row(options.top_k, tf.int32), each_row(options.top_p, tf.float32),
                              each_row(options.seed, tf.int64))
    return {'text': generated['text']}

  @tf.function(input_signature=[
      tf.TensorSpec([None], tf.string, 'prompt'), tf.TensorSpec([None], tf.int32, 'max_new_tokens'),
      tf.TensorSpec([None], tf.float32, 'temperature'), tf.TensorSpec([None], tf.int32, 'top_k'),
      tf.TensorSpec([None], tf.float32, 'top_p'), tf.TensorSpec([None], tf.int64, 'seed')], autograph=False)
  def generate(self, prompt: tf.Tensor, max_new_tokens: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor,
               top_p: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Goes on from prompts.

    Args:
      prompt: [B] string.
      max_new_tokens: [B] int32, tokens to write, from 0 to MAX_TOKENS.
      temperature, top_k, top_p, seed: [B], as in `decoding.generate`.

    Returns:
      A dictionary of [B]:
        text: what was written, without the prompt, as valid UTF-8.
        text_bytes: the same as the model wrote it.
        num_tokens: how many tokens were written.
        log_prob: in nats, of what was written given the prompt.
    """
    count = tf.clip_by_value(max_new_tokens, 0, MAX_TOKENS)
    tokens, lengths = encode_prompts_tf(self._tokenizer, prompt)
    state = tf.nest.map_structure(lambda s: tf.repeat(s, tf.shape(prompt)[0], 0), self._initial)
    generated = prefill_and_generate(self._advance, tokens, lengths, state, length=tf.maximum(tf.reduce_max(count), 1),
                                     temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    wanted = tf.sequence_mask(count, tf.shape(generated.tokens)[1])
    text = self._tokenizer.decode_tf(tf.RaggedTensor.from_tensor(generated.tokens, count))
    return {'text': valid_utf8(text), 'text_bytes': text, 'num_tokens': count,
            'log_prob': tf.reduce_sum(tf.where(wanted, generated.log_probs, 0.0), 1)}


def valid_utf8(text: tf.Tensor) -> tf.Tensor:
  """[B] string -> the same without an unfinished character at the end, and with U+FFFD for other invalid bytes."""
  valid = tf.strings.unicode_transcode(text, 'UTF-8', 'UTF-8', errors='replace')
  whole = tf.strings.regex_full_match(text, '\\C*\ufffd')  # the model wrote this U+FFFD; \C is any byte
  return tf.where(whole, valid, tf.strings.regex_replace(valid, '\ufffd$', ''))
