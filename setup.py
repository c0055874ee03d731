"""Packaging of charlm; `pip install -e .[dev]` for development."""
import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r"^__version__ = '(.+)'$", (HERE / 'charlm/__init__.py').read_text(), re.MULTILINE)[1]

# TensorFlow Text asks for the TensorFlow of its own minor version, so pip finds a pair. It has no Windows wheels.
TEXT = ['tensorflow-text>=2.21,<3; sys_platform != "win32"']
SAFETENSORS = ['safetensors>=0.4,<1']
LITERT = ['ai-edge-litert>=2,<3']
# Beam wants a protobuf below 7, which all else here can do with, too.
BEAM = ['apache-beam>=2.77,<3']
GRPC = ['grpcio>=1.60,<2', 'protobuf>=5,<8']
# TensorFlow Datasets 4.9 imports importlib_resources when it downloads, and does not declare it.
TFDS = ['tensorflow-datasets>=4.9.9,<5', 'importlib_resources>=5']

setuptools.setup(
  name='charlm',
  version=VERSION,
  description='Small recurrent language models, trained, evaluated, sampled and served with TensorFlow',
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(
    include=['charlm', 'charlm.*', 'data_pipeline', 'data_pipeline.*', 'flags', 'flags.*']),
  # Faster recurrence on CPUs. Where there is no C++ compiler charlm goes on without, and says so.
  ext_modules=[setuptools.Extension(
    'charlm.network.backend._kernels', ['kernels/kernels.cc'], language='c++', optional=True,
    depends=[str(path.relative_to(HERE)) for path in sorted(HERE.glob('kernels/*.h'))],
    extra_compile_args=['-O3', '-std=c++17', '-fno-math-errno', '-pthread', '-Wno-psabi', '-Wno-ignored-attributes'])],
  package_data={'flags': ['presets/*.flags'], 'charlm.evaluation': ['page.html', 'page.css', 'page.js']},
  python_requires='>=3.10',
  install_requires=[
    'absl-py>=2,<3',
    'keras>=3.12,<4',
    'matplotlib>=3.8,<4',
    'numpy>=1.26,<3',
    'sentencepiece>=0.2,<0.3',
    'tensorboard>=2.20,<3',  # tf.summary writes nothing without it
    'tensorflow>=2.21,<3',
    'tqdm>=4.60,<5',
    'zstandard>=0.22,<1',
  ],
  extras_require={
    'text': TEXT,
    'tfds': TFDS,
    'cuda': ['tensorflow[and-cuda]>=2.21,<3'],
    'grpc': GRPC,
    'safetensors': SAFETENSORS,
    'litert': LITERT,
    'beam': BEAM,
    # The compilers for TPUs and NVIDIA GPUs that tests/chips asks; no jax. libtpu has no wheel for Python 3.10.
    'chips': ['jax-cuda12-pjrt==0.10.2; sys_platform == "linux"',
              'libtpu==0.0.42.1; sys_platform == "linux" and python_version >= "3.11"'],
    'dev': ['hypothesis>=6.130,<7', 'mypy>=1.15,<3', 'pytest>=8', 'pytest-xdist>=3.5', 'ruff>=0.9', *BEAM, *GRPC,
            *LITERT, *SAFETENSORS, *TEXT, *TFDS],
  },
  entry_points={
    'console_scripts': [
      'charlm-train=charlm.commands.train:run',
      'charlm-evaluate=charlm.commands.evaluate:run',
      'charlm-sample=charlm.commands.sample:run',
      'charlm-score=charlm.commands.score:run',
      'charlm-export=charlm.commands.export:run',
      'charlm-prepare=charlm.commands.prepare:run',
    ],
  },
)
