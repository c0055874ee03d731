"""A TPU of four cores that TensorFlow takes for real as long as it only traces, and the program that one core runs.

What tf.distribute.TPUStrategy traces is its own. Variables are on the CPU, as TensorFlow places softly, and what it
would have a TPU run cannot run.
"""
import contextlib
import types
from unittest import mock

import tensorflow as tf
from tensorflow.core.protobuf.tpu import topology_pb2
from tensorflow.python.framework import ops
from tensorflow.python.tpu import topology, tpu_system_metadata
from tensorflow.python.tpu.ops import tpu_ops

REPLICAS = 4
TOPOLOGY = topology.Topology(topology_pb2.TopologyProto(
  mesh_shape=[2, 2, 1, 1], num_tasks=1, num_tpu_devices_per_task=REPLICAS,
  device_coordinates=[0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0]).SerializeToString())


class Resolver(tf.distribute.cluster_resolver.ClusterResolver):
  """Finds the TPU in this process."""
  task_type = task_id = None

  def get_tpu_system_metadata(self):
    devices = [types.SimpleNamespace(name=f'/job:localhost/replica:0/task:0/device:{kind}:{i}', device_type=kind)
               for kind, count in [('CPU', 1), ('TPU', REPLICAS)] for i in range(count)]
    return tpu_system_metadata.TPUSystemMetadata(REPLICAS, 1, REPLICAS, TOPOLOGY, tuple(devices))

  def master(self, *_, **__):
    return ''

  def cluster_spec(self):
    return tf.train.ClusterSpec({})

  def get_coordination_service_leader(self):
    return ''

  def get_job_name(self):
    return None


@contextlib.contextmanager
def strategy():
  """A TPUStrategy, for variables and programs that are made inside."""
  # A handle for all replicas' variables would be one of no device; the first one's stands for it.
  with mock.patch.object(ops, 'pack_eager_tensors', lambda tensors, _=None: tensors[0]):
    yield tf.distribute.TPUStrategy(
      Resolver(), tf.tpu.experimental.DeviceAssignment.build(TOPOLOGY, num_replicas=REPLICAS))


def program(function, *args):
  """What one core runs of a tf.function that calls strategy.run: a serialized HloModuleProto.

  args: of the function; of each replica alike.
  """
  with mock.patch.multiple(tpu_ops, cross_replica_sum=_sum, all_to_all=lambda x, **_: x):  # of what all have alike
    traced = function.get_concrete_function(*args)
  inputs = [p.name for p in traced.graph.inputs]
  captured = {placeholder.name: tensor for tensor, placeholder in traced.graph.captures}
  graph, outputs = _of_one_replica(traced.graph.as_graph_def(), inputs), [t.name for t in traced.graph.outputs]
  read = {name for node in graph.node for name in node.input}

  @tf.function(jit_compile=True, autograph=False)
  def one(*flat):
    capture = tf.compat.v1.get_default_graph().capture
    given = {name: capture(tensor) for name, tensor in captured.items()}
    given |= dict(zip([name for name in inputs if name not in captured], flat, strict=True))
    return tf.graph_util.import_graph_def(graph, {k: v for k, v in given.items() if k.removesuffix(':0') in read},
                                          outputs)

  flat = [a for a in tf.nest.flatten(args) if a is not None]
  return one.experimental_get_compiler_ir(*flat)(stage='hlo_serialized')


def _sum(x, group_assignment=None, name=None):
  """As tpu_ops.cross_replica_sum, by the operation that compilers of other devices know, too."""
  size, key = tf.raw_ops.CollectiveAssignGroupV2(group_assignment=[[*range(REPLICAS)]], device_index=0, base_key=1)
  return tf.raw_ops.CollectiveReduceV2(input=x, group_size=size, group_key=key, instance_key=0, ordering_token=[],
                                       merge_op='Add', final_op='Id', name=name)


def _of_one_replica(graph, inputs):
  """The nodes of a graph without those that spread it over replicas, and without its inputs."""
  kept = [n for n in graph.node if f'{n.name}:0' not in inputs and n.op != 'TPUCompilationResult']
  for node in kept:
    node.device = ''
    for name in [name for name in node.attr if name.startswith('_')]:
      del node.attr[name]  # such as _tpu_replicate
    if node.op == 'TPUReplicatedInput':
      first, controls = node.input[0], [i for i in node.input if i.startswith('^')]
      _become(node, 'Identity', [first, *controls], T=node.attr['T'])
    elif node.op == 'TPUReplicatedOutput':
      types_ = tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(type=[node.attr['T'].type] * REPLICAS))
      _become(node, 'IdentityN', [node.input[0]] * REPLICAS, T=types_)
    elif node.op == 'TPUReplicateMetadata':
      _become(node, 'NoOp', node.input)
  return tf.compat.v1.GraphDef(node=kept, library=graph.library, versions=graph.versions)


def _become(node, op, inputs, **attributes):
  node.CopyFrom(tf.compat.v1.NodeDef(name=node.name, op=op, input=inputs, attr=attributes))
