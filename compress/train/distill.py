"""Losses of a student that learns from labels and from a teacher: (1 − w)·CE + w·L_soft."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from compress.recipe import DistillSettings


def classification_loss(
    student: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    distill: DistillSettings | None = None,
    teacher: Tensor | None = None,
) -> Tensor:
    """Returns the mean loss of a batch; the teacher's term only where both `distill` and `teacher` are given.

    Args:
        student: logits [N, K].
        labels: int64 [N].
        label_smoothing: share of the target spread over all K classes, in the term of the labels.
        distill: kind, temperature T and weight w of the teacher's term.
        teacher: logits [N, K].
    """
    hard = functional.cross_entropy(student, labels, label_smoothing=label_smoothing)
    if distill is None or teacher is None:
        return hard
    soft = logits_loss(student, teacher) if distill.kind == "logits" else kl_loss(student, teacher, distill.temperature)
    return (1 - distill.weight) * hard + distill.weight * soft


def kl_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher/T) ‖ softmax(student/T)), mean over the batch.

    The factor T² keeps the size of the gradient when T changes.

    Args:
        student: logits [N, K].
        teacher: logits [N, K].
        temperature: T > 0.

    Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, §2. The BonsaiNet
    thesis, eq. 4.4, prints Σ p_teacher log p_student, which is to be maximised and lacks the teacher's own entropy;
    the divergence has the same gradient with the sign that a loss needs. Its eq. 4.5 is ours with w = 1 − λ and T = 1.
    """
    log_student = functional.log_softmax(student / temperature, 1)
    log_teacher = functional.log_softmax(teacher / temperature, 1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def logits_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over batch and classes of (student − teacher)².

    Args:
        student: logits [N, K].
        teacher: logits [N, K].

    Source: J. Ba, R. Caruana, "Do Deep Nets Really Need to be Deep?", 2014, eq. 1; they sum over classes and halve,
    which only rescales w.
    """
    return functional.mse_loss(student, teacher)
