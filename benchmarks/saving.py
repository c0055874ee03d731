"""How long training waits for a checkpoint, in a process of its own.

    python -m benchmarks.saving --workdir=DIR [flags of charlm-train]

trains a model of 48 MB with its optimizer, saves every 10 steps, and prints one JSON object: the megabytes of a
checkpoint, and of all but the first save, which makes room for the copy, the milliseconds that training waited, those
of the processor that it spent in them, and those until all was on the disk.
"""
import contextlib
import json
import os
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from charlm.commands import train
from charlm.training import trainer
from charlm.workdir import checkpoint

FLAGS = ['--units=640', '--layers=2', '--embedding_size=64', '--input_units=64', '--batch_size=8', '--chunk_length=32',
         '--steps=120', '--save_every=10', '--eval_every=0', '--sample_every=0']


def main():
  waited, worked, written, size = [], [], [], []
  save, write = trainer.Trainer._save, checkpoint.save

  def watched(self):
    began, used = time.perf_counter(), time.thread_time()
    save(self)
    waited.append(1000 * (time.perf_counter() - began))
    worked.append(1000 * (time.thread_time() - used))

  def watched_write(workdir, step, arrays, state):
    began = time.perf_counter()
    write(workdir, step, arrays, state)
    written.append(1000 * (time.perf_counter() - began))
    size.append(sum(array.nbytes for array in arrays.values()) / 1e6)

  trainer.Trainer._save, checkpoint.save = watched, watched_write
  with contextlib.redirect_stdout(sys.stderr):
    train.run([sys.argv[0], *FLAGS, *sys.argv[1:]])
  print(json.dumps({'megabytes': round(size[-1], 1), **{name: [round(number, 1) for number in numbers[1:]] for
                    name, numbers in (('waited_ms', waited), ('processor_ms', worked), ('written_ms', written))}}))


if __name__ == '__main__':
  main()
