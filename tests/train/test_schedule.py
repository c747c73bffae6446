"""Learning rates against values worked out by hand."""

import pytest

from compress.recipe import TrainSettings
from compress.train.schedule import learning_rate


def rates(epoch_steps, **chosen):
    settings = TrainSettings(**{"learning_rate": 0.8, **chosen})
    return [learning_rate(settings, step, epoch_steps) for step in range(settings.epochs * epoch_steps)]


def test_constant():
    assert rates(2, epochs=2, schedule="constant") == [0.8] * 4


def test_step_drops_after_whole_epochs():
    got = rates(2, epochs=5, schedule="step", step_epochs=2, gamma=0.5)
    assert got == pytest.approx([0.8] * 4 + [0.4] * 4 + [0.2] * 2)


def test_multi_step_drops_at_shares_of_the_training():
    got = rates(2, epochs=3, schedule="multi-step", gamma=0.1)
    assert got == pytest.approx([0.8, 0.8, 0.08, 0.08, 0.008, 0.008])
    at_tenths = rates(1, epochs=10, schedule="multi-step", milestones=[0.3, 0.6, 0.8], gamma=0.2)
    assert at_tenths == pytest.approx([0.8] * 3 + [0.16] * 3 + [0.032] * 2 + [0.0064] * 2)


def test_cosine_falls_step_by_step():
    # (1 + cos(π t/4)) / 2 = 1, (2 + √2)/4, 1/2, (2 − √2)/4.
    assert rates(2, epochs=2, schedule="cosine") == pytest.approx([0.8, 0.6828427, 0.4, 0.1171573])


def test_warmup_rises_from_a_tenth_and_cosine_starts_after_it():
    got = rates(3, epochs=2, schedule="cosine", warmup_epochs=2 / 3)
    assert got == pytest.approx([0.08, 0.44, 0.8, 0.6828427, 0.4, 0.1171573])


def test_warmup_may_last_as_long_as_the_training():
    assert rates(2, epochs=1, schedule="cosine", warmup_epochs=5) == pytest.approx([0.08, 0.152])


def test_a_step_beyond_the_end_keeps_the_last_rate():
    settings = TrainSettings(epochs=1, learning_rate=1.0)
    assert learning_rate(settings, 7, 2) == pytest.approx(0.0)
