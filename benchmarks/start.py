"""Where the time to the first characters of charlm-sample goes, phase by phase, in a process of its own.

    python -m benchmarks.start WORKDIR

prints one JSON object, {phase: seconds}; run.py asks it several times.
"""
import json
import os
import sys
import time

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'


def main():
  times = [time.perf_counter()]
  from charlm.commands import sample  # noqa: F401, the flags are read, and mistakes told, before TensorFlow is imported
  times.append(time.perf_counter())
  import tensorflow  # noqa: F401
  times.append(time.perf_counter())
  from charlm.generation.prompts import encode_prompt
  from charlm.generation.random_streams import row_seeds
  from charlm.generation.session import Session
  from charlm.generation.terminal import SHOW_EVERY
  from charlm.workdir import trained_model
  times.append(time.perf_counter())
  opened = trained_model.load_model(sys.argv[1], recurrence='auto')
  times.append(time.perf_counter())
  session = Session(opened.model, row_seeds(0, 1), temperature=0.8, top_k=0, top_p=1.0)
  ids = encode_prompt(opened.tokenizer, b'')
  times.append(time.perf_counter())
  state = session.read([ids])
  times.append(time.perf_counter())
  for _ in range(2):
    state = session.write(SHOW_EVERY, state).state
    times.append(time.perf_counter())
  phases = ('flags', 'import tensorflow', "charlm's other imports", 'read weights and make the model',
            'table and weights', 'compile, and read the prompt', f'compile, and write {SHOW_EVERY} tokens',
            f'write {SHOW_EVERY} more tokens')
  print(json.dumps({p: b - a for p, a, b in zip(phases, times[:-1], times[1:], strict=True)}))


if __name__ == '__main__':
  main()
