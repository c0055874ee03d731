"""How likely a text is under a model.

    scoring        the plain way, and what all ways share
    dynamic        the model learns from the text while it is evaluated on it
    mc_dropout     the mean over several passes with dropout
    free_running   the loss after the model has read its own samples
    texts          which text that is
    token_scores   how likely each token of many texts is

May import `generation` and all below it. Begin with `scoring.py`.
"""
