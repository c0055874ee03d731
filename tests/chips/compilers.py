"""Compiles XLA programs for chips that this machine does not have, with the compilers that their PJRT plugins hold.

    pip install -e '.[chips]'     libtpu (TPU) and jax-cuda12-pjrt (NVIDIA); no jax

The plugins are spoken to by the C interface of PJRT (tensorflow/include/xla/pjrt/c/pjrt_c_api.h).
"""
import ctypes
import importlib.util
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tensorflow.compiler.xla.service import hlo_pb2

# Functions that are called: their place in PJRT_Api and the size of their arguments, both counted in pointers. New
# versions add to the end.
CALLS = {'Error_Destroy': (5, 3), 'Error_Message': (6, 5), 'Plugin_Initialize': (8, 2), 'Executable_Destroy': (45, 3),
         'Executable_OptimizedProgram': (53, 4), 'TopologyDescription_Create': (87, 7), 'Compile': (94, 8),
         'Executable_GetCompiledMemoryStats': (101, 15)}
OPTIONS = b'\x1a\x0f\x08' + b'\xff' * 9 + b'\x01\x20%c\x28\x01'  # CompileOptionsProto: ordinal -1, so many replicas
# Else libtpu asks the network which TPU this machine has, for a minute, and is for one process at a time.
FOR_LIBTPU = {'TPU_SKIP_MDS_QUERY': '1', 'TPU_ACCELERATOR_TYPE': 'v5litepod-4', 'TPU_WORKER_HOSTNAMES': 'localhost',
              'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'}
NO_WORK = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'}


class Refused(Exception):
  """What a compiler said."""


class Memory(NamedTuple):
  """Bytes on the chip. `aliased` of the outputs are in the memory of the arguments."""
  code: int
  arguments: int
  outputs: int
  aliased: int
  temporary: int

  @property
  def total(self) -> int:
    return self.code + self.arguments + self.outputs - self.aliased + self.temporary


class Loop(NamedTuple):
  """A while loop of a compiled program.

  Attributes:
    kernels: operations of its body that do work.
    trips: how often it runs, where the compiler knows.
    cycles: of its body, as a TPU's compiler guesses; 0 where it does not.
  """
  kernels: int
  trips: int | None
  cycles: int


class Compiler:
  """The compiler of a plugin, for one chip."""

  def __init__(self, package: str, library: str, chips: str, **options: str):
    """package, library: the plugin. chips: the name of a topology, such as v5e:2x2. options: of the plugin.

    Raises ModuleNotFoundError where the package is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
      raise ModuleNotFoundError(f'{package} is not installed')
    os.environ |= FOR_LIBTPU
    self._texts: list[bytes] = []  # that the plugin has pointers to
    plugin = ctypes.CDLL(str(pathlib.Path(found.submodule_search_locations[0]) / library))
    plugin.GetPjrtApi.restype = ctypes.POINTER(ctypes.c_void_p)
    self._api = plugin.GetPjrtApi()
    self._call('Plugin_Initialize')
    values = []  # of PJRT_NamedValue, each a string
    for key, value in options.items():
      values += [56, 0, *self._text(key), 0, *self._text(value)]
    array = (ctypes.c_void_p * len(values))(*values)
    self._topology = self._call('TopologyDescription_Create', *self._text(chips), ctypes.addressof(array),
                                len(options))[-1]

  def compile(self, hlo: bytes, replicas: int = 1) -> tuple[Any, Memory]:
    """A serialized HloModuleProto -> the optimized HloModuleProto, and what it takes. Raises Refused.

    replicas: chips that run it side by side.
    """
    program = (ctypes.c_void_p * 6)(48, 0, *self._text(hlo), *self._text('hlo'))
    options = self._text(OPTIONS % replicas)
    try:
      executable = self._call('Compile', self._topology, ctypes.addressof(program), *options, 0)[-1]
    finally:
      del self._texts[-3:]
    memory = Memory(*self._call('Executable_GetCompiledMemoryStats', executable)[3:8])
    program = (ctypes.c_void_p * 6)(48)
    self._call('Executable_OptimizedProgram', executable, ctypes.addressof(program))  # how large
    room = ctypes.create_string_buffer(program[3])
    program[2] = ctypes.addressof(room)
    self._call('Executable_OptimizedProgram', executable, ctypes.addressof(program))
    self._call('Executable_Destroy', executable)
    # An HloModuleProtoWithConfig: its first field is the module, as is that of an HloProto.
    return hlo_pb2.HloProto.FromString(room.raw).hlo_module, memory

  def _text(self, text):
    """-> pointer and length."""
    self._texts.append(text if isinstance(text, bytes) else text.encode())
    return ctypes.cast(ctypes.c_char_p(self._texts[-1]), ctypes.c_void_p).value, len(self._texts[-1])

  def _call(self, name, *inputs):
    """-> pointers and numbers of the arguments after the call. Raises Refused."""
    place, size = CALLS[name]
    arguments = (ctypes.c_void_p * size)(8 * size, None, *inputs)
    result = None if name.startswith('Error') else ctypes.c_void_p
    error = ctypes.CFUNCTYPE(result, ctypes.c_void_p)(self._api[place])(ctypes.addressof(arguments))
    if error:
      message = self._call('Error_Message', error)
      text = ctypes.string_at(message[3], message[4]).decode()
      self._call('Error_Destroy', error)
      raise Refused(text)
    return [a or 0 for a in arguments]


def compiler(chip: str) -> Compiler:
  """The compiler of h100, or of a TPU such as v5e. Raises ModuleNotFoundError where it is not installed."""
  if chip == 'h100':
    target = pathlib.Path(__file__).with_name('h100_sxm.txtpb').read_text()  # a GpuTargetConfigProto
    return Compiler('jax_plugins.xla_cuda12', 'xla_cuda_plugin.so', '', target_config=target, topology='1x1x1')
  return Compiler('libtpu', 'libtpu.so', f'{chip}:2x2')


def loops(module: Any) -> Iterator[Loop]:
  """Those of an optimized HloModuleProto."""
  bodies = {c.id: c.instructions for c in module.computations}
  for loop in (i for instructions in bodies.values() for i in instructions if i.opcode == 'while'):
    work = [i for i in bodies[loop.called_computation_ids[0]] if i.opcode not in NO_WORK]
    trips = re.search(rb'known_trip_count":\{"n":"(\d+)', loop.backend_config)
    cycles = [re.search(rb'estimated_cycles":"(\d+)', i.backend_config) for i in work]
    yield Loop(len(work), int(trips[1]) if trips else None, sum(int(c[1]) for c in cycles if c))
