"""Losses against values worked out by hand."""

import math

import pytest
import torch

from compress.recipe import DistillSettings
from compress.train.distill import classification_loss, kl_loss, logits_loss

# softmax(0, ln 3) = (1/4, 3/4); softmax(ln 3, 0) = (3/4, 1/4).
STUDENT = torch.tensor([[0.0, math.log(3)]])
TEACHER = torch.tensor([[math.log(3), 0.0]])
LABEL = torch.tensor([0])


def test_cross_entropy_with_label_smoothing():
    assert classification_loss(STUDENT, LABEL).item() == pytest.approx(math.log(4))
    # Targets (1 − s + s/2, s/2) = (0.9, 0.1) for s = 0.2.
    expected = 0.9 * math.log(4) + 0.1 * math.log(4 / 3)
    assert classification_loss(STUDENT, LABEL, label_smoothing=0.2).item() == pytest.approx(expected)


def test_kl_is_from_teacher_to_student():
    # Σ p_T (ln p_T − ln p_S) = 3/4 ln 3 − 1/4 ln 3.
    assert kl_loss(STUDENT, TEACHER, 1.0).item() == pytest.approx(0.5 * math.log(3))
    lopsided = torch.tensor([[0.0, 0.0]])
    # Teacher (3/4, 1/4), student (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2, unlike the other direction.
    assert kl_loss(lopsided, TEACHER, 1.0).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_temperature_divides_logits_and_is_squared_in_front():
    assert kl_loss(2 * STUDENT, 2 * TEACHER, 2.0).item() == pytest.approx(4 * 0.5 * math.log(3))


def test_kl_is_a_mean_over_the_batch():
    twice = kl_loss(STUDENT.repeat(2, 1), torch.cat([TEACHER, STUDENT]), 1.0)
    assert twice.item() == pytest.approx(0.25 * math.log(3))


def test_logits_loss_is_the_mean_square():
    assert logits_loss(STUDENT, TEACHER).item() == pytest.approx(math.log(3) ** 2)


@pytest.mark.parametrize(("kind", "soft"), [("kl", 4 * 0.5 * math.log(3)), ("logits", 4 * math.log(3) ** 2)])
def test_the_weight_is_the_teachers_share(kind, soft):
    distill = DistillSettings(kind=kind, temperature=2.0, weight=0.25)
    got = classification_loss(2 * STUDENT, LABEL, distill=distill, teacher=2 * TEACHER)
    # softmax(0, 2 ln 3) = (1/10, 9/10).
    assert got.item() == pytest.approx(0.75 * math.log(10) + 0.25 * soft)
