"""Structures of a model, so that each option of it is in one for each cell: flags of `slow_model.random_model`."""
TEXT = 'the cat sat on the mat\n' * 50 + 'caff\u00e8, \u00e8 cos\u00ec\n' * 20

STRUCTURES = [{}, dict(input_layers=2, layers=1, zoneout=0.3),
              dict(input_layers=0, input_units=256, tie_embeddings=True),
              dict(layer_norm=False, wiring='residual', layers=3), dict(norm='joint', combine='last'),
              dict(layers=3, wiring='dense', combine='concat', compute_dtype='bfloat16'),
              dict(layers=3, wiring='dual_path', units=9, initial_state='zeros')]
STRUCTURES += [structure | dict(cell='lstm') for structure in STRUCTURES]
STRUCTURES += [dict(cell='lstm', cell_norm=True, zoneout=0.3, zoneout_output=0.1, tie_embeddings=True, norm='joint')]
