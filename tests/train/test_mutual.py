"""Two networks that teach each other: the steps by hand, the memory, and that it pays."""

import copy
import math

import pytest
import torch
from torch import nn

from compress.recipe import DistillSettings, TrainSettings
from compress.train.distill import classification_loss, kl_loss, mutual_loss
from compress.train.loop import fit
from compress.train.mutual import Peer

MUTUAL = DistillSettings(kind="mutual", temperature=1.0, weight=0.5)


def test_the_loss_is_kl_without_a_gradient_to_the_peer():
    # softmax(0, ln 3) = (1/4, 3/4) and its mirror image: Σ p (ln p − ln q) = ½ ln 3.
    student, peer = (torch.tensor([row], requires_grad=True) for row in ([0.0, math.log(3)], [math.log(3), 0.0]))
    loss = mutual_loss(student, peer, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * math.log(3))
    assert student.grad.flatten().tolist() == pytest.approx([1 / 4 - 3 / 4, 3 / 4 - 1 / 4])
    assert peer.grad is None


def test_both_learn_from_what_the_other_said_before_the_step():
    torch.manual_seed(0)
    settings = TrainSettings(momentum=0.0, weight_decay=0.0, distill=MUTUAL)
    images, labels = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    student, network = nn.Linear(3, 2), nn.Linear(3, 2)
    by_hand = copy.deepcopy(network)
    peer = Peer(network, settings)
    peer.see(images)
    peer.hear(student(images), labels)
    with torch.no_grad():
        said = student(images)
        student.weight.zero_()
    peer.after_step(student, 0.1)
    own = by_hand(images)
    (0.5 * nn.functional.cross_entropy(own, labels) + 0.5 * kl_loss(own, said, 1.0)).backward()
    torch.testing.assert_close(network.weight, by_hand.weight - 0.1 * by_hand.weight.grad)
    assert student.weight.grad is None


def test_the_peer_is_trained_and_a_plain_teacher_is_not(dataset, make_model):
    for kind in ("kl", "mutual"):
        settings = TrainSettings(
            epochs=20,
            batch_size=8,
            learning_rate=0.05,
            device="cpu",
            distill=MUTUAL.model_copy(update={"kind": kind}),
        )
        student, peer = make_model(0), make_model(1, width=4)
        before = copy.deepcopy(peer.state_dict())
        fit(student, dataset, settings, seed=0, teacher=peer)
        moved = any(not torch.equal(tensor, before[name]) for name, tensor in peer.state_dict().items())
        assert moved == (kind == "mutual")
        assert all(parameter.grad is None for parameter in peer.parameters())
        student.eval(), peer.eval()
        images, labels = (torch.from_numpy(part) for part in next(iter(dataset.test.batches(16))))
        right = [(model(images).argmax(1) == labels).float().mean().item() for model in (student, peer)]
        assert (min(right) > 0.8) == (kind == "mutual"), right


def test_a_resumed_training_is_the_undisturbed_one(dataset, make_model, tmp_path):
    settings = TrainSettings(
        epochs=4, batch_size=8, learning_rate=0.05, device="cpu", distill=MUTUAL, optimizer="adamw", gradient_clip=1.0
    )

    class InterruptionError(Exception):
        pass

    def interrupt(report):
        if (report.epoch, report.step) == (3, 2):
            raise InterruptionError

    alone, peer = make_model(0), make_model(1)
    fit(alone, dataset, settings, seed=3, teacher=peer)
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        fit(make_model(0), dataset, settings, seed=3, teacher=make_model(1), checkpoint=path, progress=interrupt)
    resumed, other = make_model(0), make_model(1)
    seen = []
    fit(
        resumed,
        dataset,
        settings,
        seed=3,
        teacher=other,
        checkpoint=path,
        progress=lambda report: seen.append(report.epoch),
    )
    assert set(seen) == {3, 4}
    for one, two in ((alone, resumed), (peer, other)):
        assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_the_weight_is_the_peers_share():
    student, peer, label = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(3), 0.0]]), torch.tensor([0])
    distill = DistillSettings(kind="mutual", temperature=1.0, weight=0.25)
    found = classification_loss(student, label, distill=distill, teacher=peer)
    assert found.item() == pytest.approx(0.75 * math.log(4) + 0.25 * 0.5 * math.log(3))
