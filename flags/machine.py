"""How many cores of the machine this process may use."""
import functools
import os
import pathlib


def cores() -> int:
  """Cores that this process may use all of: those it may run on, or fewer where its container has less time."""
  allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return min(allowed, quota() or allowed)


@functools.cache
def quota(folder: str | os.PathLike = '/sys/fs/cgroup') -> int | None:
  """Whole cores, at least one, of the time that the container may use; None where there is no such limit.

  Linux, "Control Group v2", cpu.max: microseconds of processor time, or max, in each period of so many microseconds.
  """
  try:
    used, period = pathlib.Path(folder, 'cpu.max').read_text().split()
    return max(1, int(used) // int(period))
  except (OSError, ValueError):  # another system, another version, or no limit
    return None
