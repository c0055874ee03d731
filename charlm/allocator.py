"""How the C library keeps memory."""
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h of the GNU C library


def keep_freed():
  """Has freed memory kept for the next step rather than given back to the system.

  A step takes and frees the same large blocks each time. Given back, every page of them must be cleared and mapped
  anew: a quarter of the processor's time in a small model's step. To be called before TensorFlow starts its threads.
  Other C libraries than GNU's are left alone.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt:
    mallopt(M_ARENA_MAX, 1)  # other arenas than the first map large blocks whatever M_MMAP_MAX says
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)  # never
