"""Workers find each other in any order, and one that cannot be found is waited for in Python."""
import socket
import threading

import pytest

from charlm.training import local_workers, rendezvous
from charlm.training.cluster import Cluster
from flags.errors import RunError


def test_all_meet_whoever_comes_first():
  addresses = tuple(f'127.0.0.1:{port}' for port in local_workers.free_ports(3))
  waiting = [threading.Thread(target=rendezvous.wait_for_all, args=(Cluster(addresses, index),), daemon=True)
             for index in range(3)]
  waiting[2].start()
  waiting[0].start()
  waiting[0].join(0.5)
  assert waiting[0].is_alive() and waiting[2].is_alive(), 'there is no worker 1 yet'
  servers = []
  waiting[1].start()
  for index in 1, 0, 2:  # TensorFlow's server takes the place of each that is done
    waiting[index].join(0.05)
  for _ in range(600):
    for index, thread in enumerate(waiting):
      if not thread.is_alive() and index not in [i for i, _ in servers]:
        servers.append((index, socket.create_server(('', int(addresses[index].rpartition(':')[2])))))
    if len(servers) == 3:
      break
    waiting[0].join(0.05)
  for _, server in servers:
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
