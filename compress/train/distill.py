"""Losses of a student that learns from labels and from a teacher: (1 − w)·CE + w·L_soft."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

from compress.catalogue import Knob, MethodInfo, describe_function
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
    soft = KINDS[distill.kind](student, teacher, distill.temperature)
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


def logits_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over batch and classes of (student − teacher)².

    Args:
        student: logits [N, K].
        teacher: logits [N, K].
        temperature: means nothing here; logits are compared as they are.

    Source: J. Ba, R. Caruana, "Do Deep Nets Really Need to be Deep?", 2014, eq. 1; they sum over classes and halve,
    which only rescales w.
    """
    return functional.mse_loss(student, teacher)


def mutual_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(peer/T) ‖ softmax(student/T)), where the peer learns from the student in the same way.

    Args:
        student: logits [N, K].
        teacher: the peer's logits [N, K].
        temperature: T > 0.

    Source: Y. Zhang, T. Xiang, T. M. Hospedales, H. Lu, "Deep Mutual Learning", 2018, equations (4) and (5), which are
    T = 1 and w = ½ here but for the factor ½ of both. There the second network looks at the first one again after its
    step; here both look before either steps.
    """
    return kl_loss(student, teacher.detach(), temperature)


KINDS: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "kl": kl_loss,
    "logits": logits_loss,
    "mutual": mutual_loss,
}


def list_distillations() -> list[MethodInfo]:
    """Returns what there is for `kind` of a recipe's [retrain] distill, by id."""
    knobs = tuple(
        Knob(
            name,
            "float",
            DistillSettings.model_fields[name].default,
            str(DistillSettings.model_fields[name].description),
        )
        for name in ("temperature", "weight")
    )
    return [describe_function(name, "distillation", KINDS[name], knobs) for name in sorted(KINDS)]
