"""A process that does tasks for Apache Beam on this machine, until it is told to end or its parent is gone.

    python -m data_pipeline.beam.worker STOP

STOP is the path of a file; once it is there, the process ends.
"""
import os
import sys
import threading
import time

SECONDS = 0.5  # between two looks at whether to end


def main() -> None:
  stop, parent = sys.argv[1], os.getppid()
  threading.Thread(target=_end_when_told, args=(stop, parent), daemon=True).start()
  from apache_beam.runners.worker import sdk_worker_main
  sdk_worker_main.main([])


def _end_when_told(stop: str, parent: int) -> None:
  while os.getppid() == parent and not os.path.exists(stop):
    time.sleep(SECONDS)
  os._exit(1)


if __name__ == '__main__':
  main()
