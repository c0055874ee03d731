"""charlm: small recurrent language models, trained, evaluated, sampled and served."""

__version__ = '0.1.0'
