"""charlm: small recurrent language models, trained, evaluated, sampled and served.

    import charlm
    model = charlm.load('runs/book')
    print(model.generate(['It was'], length=200, seed=1)[0].text)
"""
import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from charlm.interface.model import Model, load

__all__ = ['Model', 'load']

__version__ = '0.1.0'

# TensorFlow's own allocator for CPUs, too; read when the first device is made. A step takes and frees the same large
# blocks each time. A C library gives them back to the system, which clears and maps every page anew: a seventh of the
# processor's time, a quarter in small models. Told to keep them, it needs half as much memory again.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')


def __getattr__(name: str) -> Any:
  """`load` and `Model`, once they are asked for: TensorFlow, which comes with them, takes seconds to import."""
  if name in __all__:
    return getattr(importlib.import_module('charlm.interface.model'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
