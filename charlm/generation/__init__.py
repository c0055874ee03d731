"""Text written with a model: sampling a token, decoding, prompts, sessions, and self-fed rollouts.

May import `workdir` and all below it. Begin with `decoding.py`.
"""
