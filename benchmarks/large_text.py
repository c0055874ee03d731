"""Peak memory and time to turn a large text into tokens.

    python -m benchmarks.large_text [--megabytes=1000] [--tokenizer=byte]

writes the text (the language reference and the library sources of Python, again and again) to a temporary folder,
prepares it in a process of its own, and prints one JSON object.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from data_pipeline.corpus.spec import open_corpus

PREPARE = '''
import sys
from flags.data import DataConfig
from data_pipeline import prepare
prepare.prepare(DataConfig(corpus=sys.argv[1], tokenizer=sys.argv[2], cache_dir=sys.argv[3]))
'''


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--megabytes', type=int, default=1000)
  parser.add_argument('--tokenizer', default='byte')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'large.txt')
    with open(path, 'wb') as file:
      while file.tell() < args.megabytes * 1e6:
        for spec in ('pydoc', 'stdlib'):
          file.writelines(open_corpus(spec, valid_fraction=0.0)['train'].blocks())
    began = time.perf_counter()
    subprocess.run([sys.executable, '-c', PREPARE, str(path), args.tokenizer, folder], check=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({'tokenizer': args.tokenizer, 'megabytes': round(path.stat().st_size / 1e6),
                      'seconds': round(seconds, 1), 'peak_megabytes': round(peak)}))


if __name__ == '__main__':
  main()
