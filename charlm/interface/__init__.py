"""A trained model in Python: `charlm.load`.

    model        Model: generate, stream, next, read, score
    results      what these return
    state        where a text stands
    arguments    what they are given, checked
    writing      many texts side by side
    streaming    one text, as it is written
    records      the texts of many prompts, under titles or as JSON
    likelihood   how likely texts are

May import `evaluation` and all below it. Begin with `model.py`.

    import charlm
    model = charlm.load('runs/book')
    model.generate(['It was'], length=200, seed=1)
"""
