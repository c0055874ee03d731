"""A trained model as a SavedModel, which TF Serving loads and which needs nothing of charlm.

    signatures   what a client may ask of the served model
    requests     what a request may hold: shapes, lengths, limits
    reading      reads texts: their states, and how likely each is
    parts        long texts are cut into parts that are read side by side
    blocks       reads texts of different lengths in blocks of tokens
    writing      writes texts; rows that are done leave the loop
    stops        stop texts, wherever tokens and blocks cut them
    texts        written bytes as valid UTF-8
    warm_up      the requests that TF Serving runs after it has loaded the model
    answer       a program without charlm that answers requests
    check        an export proves itself by it
    export       writes the SavedModel, and the facts about it

Other formats, for programs without TensorFlow:

    portable     what they share: a new folder, tokenizer and facts, the check
    tensors      the weights by name, as safetensors
    numpy_model  runs them: the program that goes with them
    litert       the step as a .tflite file

May import `evaluation` and all below it. Begin with `signatures.py`.
"""
