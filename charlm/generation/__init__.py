"""Text written with a model, and tokens that a model reads from its own predictions.

    prompts          text to tokens, and what an empty prompt is
    prompt_list      many prompts from one file
    decoding         reads prompts and writes tokens, with any step function
    categorical      the choice of a token: temperature, top-k, top-p, min-p
    constraints      what else decides: a repetition penalty, banned texts
    automaton        finds texts in what is written token by token
    random_streams   the random numbers of each row
    session          a model compiled to read and to write, call by call
    text_stream      tokens to characters, as they come
    terminal         samples, printed as they are written
    conversation     prompts that are answered line by line, and commands between them
    keyboard         lines that are typed, with a history, or piped in
    rollout          text that a model reads from its own predictions, for losses

May import `workdir` and all below it. Begin with `decoding.py`.
"""
