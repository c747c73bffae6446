"""Pruning in rounds: what has gone stays gone, and an interruption between rounds costs nothing."""

import json

import pytest

from compress.prune import Procedure

ITERATIVE = 'ratio = 0.5\nschedule = { name = "iterative", options = { rounds = 3, epochs = 1 } }'


class StopError(Exception):
    pass


def groups(project):
    stages = json.loads((project.run_folder / "manifest.json").read_text())["stages"]
    return next(stage for stage in stages if stage["name"] == "prune")["figures"]


def test_rounds_reach_the_ratio_with_training_between_them(project):
    project.change("ratio = 0.5", ITERATIVE)
    assert {"prune", "compact", "retrain"} <= project.run().redone
    figures = groups(project)
    assert figures["cost_after"]["macs"] <= 0.5 * figures["cost_before"]["macs"]
    assert len(figures["history"]) == 2
    assert not list(project.run_folder.glob("*.state"))


def test_between_rounds_the_retraining_counts(project):
    project.change("ratio = 0.5", ITERATIVE)
    project.run()
    project.change("[retrain]", "[retrain]\nlearning_rate = 0.01")
    assert "prune" in project.run().redone


def test_interrupted_between_rounds_it_ends_with_the_same_artefact(project, monkeypatch):
    project.change("ratio = 0.5", ITERATIVE)
    project.run()
    expected = project.hashes()["deploy.onnx"]
    (project.run_folder / "manifest.json").unlink()
    original, calls = Procedure.cut, []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise StopError
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Procedure, "cut", cut)
        with pytest.raises(StopError):
            project.run()
    assert len(list(project.run_folder.glob("prune.*.state"))) == 2
    project.run()
    assert project.hashes()["deploy.onnx"] == expected
