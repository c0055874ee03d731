"""From text to what the network reads: corpora, tokenizers, token files, and streams of chunks.

  corpus/ -> text -> tokenizers/ -> ids -> prepare.py, token_files.py -> files -> rows.py, streams.py -> batches
                                    ids -> beam/, shards.py -> shards -> shard_reader.py, streams.py -> batches

May import `flags`. Begin with `prepare.py`, which turns a corpus into token files, and `streams.py`, which reads them.
"""
