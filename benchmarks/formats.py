"""How fast and how large exports for programs without TensorFlow are, beside charlm-sample: a table in Markdown.

    python -m benchmarks.formats [UNITS]

Each writes a text by itself, 300 tokens at a time, in turn; needs the extras safetensors and litert.
"""
import contextlib
import os
import pathlib
import statistics
import string
import sys
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from charlm.commands import console
from charlm.commands.export import facts
from charlm.generation.random_streams import row_seeds
from charlm.generation.session import Session
from charlm.network.backend import choice
from charlm.network.model import LanguageModel
from charlm.serving import litert, numpy_model, tensors
from charlm.workdir.trained_model import TrainedModel
from data_pipeline.tokenizers.char import CharTokenizer
from flags.config import Config
from flags.network import ModelConfig
from flags.serving import ExportConfig

TOKENS, REPEATS = 300, 9


def session(model):
  made = Session(model, row_seeds(0, 1), temperature=0.8, top_k=0, top_p=1.0)
  state = made.read(np.array([1], np.int32))
  return lambda: made.write(TOKENS, state)


def stepped(step, state, size):
  """-> a function that writes: step: (token, state) -> logits, state."""
  random = np.random.default_rng(0)

  def write():
    token, now = 1, state
    for _ in range(TOKENS):
      logits, now = step(token, now)
      token = int((logits / 0.8 + random.gumbel(size=size)).argmax())

  return write


def lite_step(folder):
  runner = Interpreter(str(folder / 'model.tflite')).get_signature_runner('step')

  def step(token, state):
    answer = runner(token=np.array([token], np.int32), state=state)
    return answer['log_probs'][0], answer['state']

  return step


def main():
  units, tokenizer = int(sys.argv[1]) if len(sys.argv) > 1 else 512, CharTokenizer(''.join(sorted(string.printable)))
  config = Config(model=ModelConfig(units=units))
  native, size = choice.choose('auto', config.model), tokenizer.vocab_size
  model = LanguageModel(config.model, size, backend=native)
  opened = TrainedModel(config, tokenizer, model, {'step': 0, 'best_step': 0, 'best_nats': None}, 'last')
  with tempfile.TemporaryDirectory() as parent, console.quietly():
    weights, phone = (write.export(model.portable(), tokenizer,
                                   ExportConfig(format=name, export_dir=f'{parent}/{name}'), facts=facts(opened))
                      for write, name in ((tensors, 'safetensors'), (litert, 'litert')))
    program = numpy_model.Model(weights)
    initial = np.concatenate([part.numpy() for part in model.initial_state(1)], 1)
    works = {'charlm-sample': session(model), 'LiteRT': stepped(lite_step(phone), initial, size),
             'NumPy': stepped(program.step, program.initial, size)}
    sizes = {'LiteRT': phone / 'model.tflite', 'NumPy': weights / 'model.safetensors'}
    megabytes = {name: pathlib.Path(path).stat().st_size / 1e6 for name, path in sizes.items()}
    speeds = measured(works)
  print('| what | tokens/s, best / median | of charlm-sample | MB |\n| --- | --- | --- | --- |')
  for name, found in speeds.items():
    best, median = max(found), statistics.median(found)
    share = median / statistics.median(speeds['charlm-sample'])
    print(f'| {name}, H {units}, L 2 | {best:,.0f} / {median:,.0f} | {share:.2f} | {megabytes.get(name, ""):.4} |')


def measured(works):
  """{name: tokens per second of each repeat}, in turn."""
  speeds = {name: [] for name in works}
  for repeat in range(REPEATS + 1):
    for name, write in works.items():
      began = time.perf_counter()
      write()
      if repeat:  # the first compiles
        speeds[name].append(TOKENS / (time.perf_counter() - began))
  return speeds


if __name__ == '__main__':
  with contextlib.suppress(KeyboardInterrupt):
    main()
