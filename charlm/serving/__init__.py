"""A trained model as a SavedModel, which TF Serving loads and which needs nothing of charlm.

    signatures   what a client may ask of the served model
    export       writes the SavedModel, and the facts about it

May import `evaluation` and all below it. Begin with `signatures.py`.
"""
