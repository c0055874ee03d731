"""Talks to a served model. Needs neither TensorFlow nor NumPy: the standard library, or grpcio and protobuf for gRPC.

    client     generate, score, stream; read and write, call by call
    rest       requests to TF Serving's REST interface
    grpc       the same over gRPC
    transport  what both have in common
    terminal   samples and answers, printed as they come

May import `flags` alone. Begin with `client.py`.

    from charlm.client import Client
    client = Client('http://localhost:8501', model='book')
    for text in client.stream('It was'):
      print(text, end='', flush=True)
"""
from charlm.client.client import Client, Generated, Score
from charlm.client.transport import ServerError

__all__ = ['Client', 'Generated', 'Score', 'ServerError']
