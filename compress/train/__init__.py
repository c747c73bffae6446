"""Training: the only optimizer loop, its hooks, distillation, evaluation, checkpoints."""
