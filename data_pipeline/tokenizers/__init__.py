"""Text to token ids and back, in Python and as graph operations.

  tokenizer      tokens                                    round trip
  byte           the 256 bytes                             any bytes
  char           the characters of the training text       text of known characters
  sentencepiece  learned (BPE), and the 256 bytes          any UTF-8

In a graph, bytes that are not UTF-8 always become U+FFFD under char and sentencepiece.

May import `flags`. Begin with `base.py`; a new tokenizer is a file of its own and an entry in `registry.py`.
"""
