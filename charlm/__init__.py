"""charlm: small recurrent language models, trained, evaluated, sampled and served."""
import os

__version__ = '0.1.0'

# TensorFlow's own allocator for CPUs, too; read when the first device is made. A step takes and frees the same large
# blocks each time. A C library gives them back to the system, which clears and maps every page anew: a seventh of the
# processor's time, a quarter in small models. Told to keep them, it needs half as much memory again.
os.environ.setdefault('TF_CPU_ALLOCATOR_USE_BFC', 'true')
