"""Builds and asks the C++ program that loads a SavedModel as TF Serving does, without Python."""
import importlib.util
import io
import os
import pathlib
import subprocess

import tensorflow as tf

SOURCE = pathlib.Path(__file__).parent / 'charlm' / 'serving' / 'loader.cc'


def build(folder):
  """-> the program, in a folder."""
  library, program = tf.sysconfig.get_lib(), pathlib.Path(folder) / 'loader'
  subprocess.run(['g++', '-std=c++17', '-w', '-O0', f'-I{tf.sysconfig.get_include()}', SOURCE, '-o', program,
                  f'-L{library}', '-Wl,--no-as-needed', '-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2',
                  f'-Wl,-rpath,{library}', '-ldl'], check=True)
  return program


def ask(program, folder, requests):
  """Runs requests [(signature, {input: array})], one after the other.

  Returns:
    Of each request {output: array}, or its message; and of loading and each request (name, seconds, seconds of
    processors).
  """
  given, answers = program.parent / 'requests', program.parent / 'answers'
  with open(given, 'wb') as file:
    for signature, inputs in requests:
      file.write(f'{signature} {len(inputs)}\n'.encode())
      for name, value in inputs.items():
        data = tf.make_tensor_proto(value).SerializeToString()
        file.write(f'{name} {len(data)}\n'.encode() + data + b'\n')
  found = importlib.util.find_spec('tensorflow_text')
  text = [str(p) for p in pathlib.Path(found.origin).parent.rglob('_sentencepiece_tokenizer.so')] if found else []
  done = subprocess.run([program, folder, given, answers, *text], capture_output=True, text=True, check=False,
                        env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '2'})
  assert done.returncode == 0, done.stderr
  times = [(name, float(seconds), float(cpu)) for name, seconds, cpu in map(str.split, done.stdout.splitlines())]
  return list(_parsed(io.BytesIO(answers.read_bytes()))), times


def _parsed(file):
  while words := file.readline().split():
    found = {}
    for _ in range(abs(int(words[1]))):
      name, size = file.readline().split()
      found[name.decode()] = file.read(int(size))
      file.readline()
    yield found['message'].decode() if int(words[1]) < 0 else {
      name: tf.make_ndarray(tf.make_tensor_proto([0]).FromString(data)) for name, data in found.items()}
