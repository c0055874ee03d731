"""Workers find each other in any order, and one that cannot be found is waited for in Python."""
import socket
import threading

import pytest

from charlm.training import local_workers, rendezvous
from charlm.training.cluster import Cluster
from flags.errors import RunError


def test_all_meet_whoever_comes_first():
  ports = local_workers.free_ports(3)
  addresses = tuple(f'127.0.0.1:{port}' for port in ports)
  servers = []  # as TensorFlow's, each in the place of a worker that has seen the others

  def meet(index):
    rendezvous.wait_for_all(Cluster(addresses, index))
    servers.append(socket.create_server(('', ports[index])))

  waiting = [threading.Thread(target=meet, args=(index,), daemon=True) for index in (2, 0, 1)]
  for thread in waiting[:2]:
    thread.start()
  waiting[0].join(0.5)
  assert not servers, 'there is no worker 1 yet'
  waiting[2].start()
  for thread in waiting:
    thread.join(30)
  for server in servers:
    server.close()
  assert len(servers) == 3


def test_a_port_that_is_taken():
  with socket.create_server(('', 0), family=socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET,
                            dualstack_ipv6=socket.has_dualstack_ipv6()) as server:
    address = f'127.0.0.1:{server.getsockname()[1]}'
    with pytest.raises(RunError, match=f'TF_CONFIG: worker 1 cannot listen at {address} .*that nothing uses'):
      rendezvous.wait_for_all(Cluster(('127.0.0.1:9', address), 1))


def test_one_process_waits_for_nobody():
  rendezvous.wait_for_all(Cluster())
