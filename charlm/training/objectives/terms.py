"""Which objectives the loss has."""
from charlm.network.model import LanguageModel
from charlm.training.objectives.base import Objective
from charlm.training.objectives.likelihood import Likelihood
from charlm.training.objectives.multi_step import MultiStep, SelfFeeding
from charlm.training.objectives.penalties import ActivationPenalty, TemporalPenalty
from charlm.training.objectives.professor_forcing import ProfessorForcing
from flags.training import TrainConfig


def objectives(config: TrainConfig, model: LanguageModel) -> list[Objective]:
  """Makes the objectives that the flags ask for. Call it under the strategy's scope, as some have variables.

  Args:
    config: the flags of training.
    model: what is trained.

  Returns:
    The terms of the loss, which is their sum; the first is the likelihood.
  """
  terms: list[Objective] = [Likelihood()]
  feeding = SelfFeeding(config, with_teacher=bool(config.professor_forcing))
  if config.multi_step:
    terms.append(MultiStep(config, feeding))
  if config.professor_forcing:
    terms.append(ProfessorForcing(config, model, feeding))
  if model.config.activation_penalty:
    terms.append(ActivationPenalty(model.config.activation_penalty))
  if model.config.temporal_penalty:
    terms.append(TemporalPenalty(model.config.temporal_penalty))
  return terms
