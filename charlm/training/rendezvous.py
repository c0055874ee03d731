"""Workers wait for each other here before TensorFlow does: while it waits, only SIGKILL can end it."""
import contextlib
import socket
import time
from collections.abc import Iterator

from charlm.training.cluster import Cluster
from flags.errors import RunError

SECONDS = 1.0  # that a worker has to answer before the others have their turn


def wait_for_all(cluster: Cluster) -> None:
  """Returns once each other worker has been seen at its address, where it listens until it has seen all others.

  From then on TensorFlow's server listens there, so that it does not matter who is first.

  Raises:
    RunError: this process cannot listen at its own address.
  """
  missing = [address for index, address in enumerate(cluster.addresses) if index != cluster.index]
  with _listening(cluster) if missing else contextlib.nullcontext():
    while missing := [address for address in missing if not _answers(address)]:
      time.sleep(0.1)


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[None]:
  """On all interfaces, as TensorFlow's server does: the address may be one that only others know."""
  address = cluster.addresses[cluster.index]
  both = socket.has_dualstack_ipv6()
  try:
    server = socket.create_server(('', _split(address)[1]), backlog=cluster.count,
                                  family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
  except (OSError, OverflowError) as error:
    raise RunError(f'TF_CONFIG: worker {cluster.index} cannot listen at {address} ({error}); expected an address of '
                   'this machine, and a port that nothing uses') from error
  with server:
    yield


def _answers(address: str) -> bool:
  try:
    socket.create_connection(_split(address), timeout=SECONDS).close()
  except (OSError, OverflowError):
    return False
  return True


def _split(address: str) -> tuple[str, int]:
  """HOST:PORT -> host, port."""
  host, _, port = address.rpartition(':')
  return host.strip('[]'), int(port)
