import dataclasses
import json
import platform
import re
from pathlib import Path
from typing import ClassVar

import pytest

from compress.cli import main
from compress.errors import CompressError, MachineError
from compress.profiling import Device, Measurement, ProfileReport, keep, profile, read_kept
from compress.profiling import configured as files
from compress.profiling.device import devices
from compress.profiling.known import known_devices
from compress.profiling.python_runner import RUNNER
from compress.profiling.resolve import resolve
from compress.profiling.statistics import bounded_ratio, counted_ratio, distant_ratio
from compress.profiling.trial_model import small_model
from compress.recipe import ProfileSettings


class Board(Device):
    """A board that says what it was told to say.

    Args:
        address: its architecture.
    """

    OPTIONS: ClassVar = {"cores": "to run on"}
    REMOTE = True
    unit, kind, cost, parity, notes = "us", "measured", 100.0, 2e-6, ()

    def facts(self):
        if self.address == "away":
            raise MachineError("board away does not answer", next_step="switch it on")
        return {"architecture": self.address}

    def measure(self, models, settings):
        return [
            Measurement(
                unit=self.unit,
                kind=self.kind,
                blocks=tuple((self.cost * (position + 1), 900.0) for _ in range(8)),
                processes=8,
                warmup=1,
                operators=(),
                load_ms=None,
                runtime_rss_bytes=None,
                peak_rss_bytes=None,
                arena_bytes=None,
                input_shapes={},
                machine={},
                runtime="r 1",
                parity=self.parity,
                notes=self.notes,
            )
            for position, _ in enumerate(models)
        ]


class Counter(Board):
    """A board that counts."""

    unit, kind = "instructions", "counted"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setitem(devices._entries, "board", Board)
    monkeypatch.setitem(devices._entries, "counter", Counter)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def write(text, file=Path("devices.toml")):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def small(name="m.onnx") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small_model().SerializeToString())
    return path


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    return text


def test_the_project_is_asked_before_the_user():
    write('a = "board:x86_64"\nb = "board:one"\n', files.user_file())
    write('b = { at = "board://two", cores = "2,3" }\n')
    assert {name: entry.at for name, entry in files.configured().items()} == {"b": "board://two", "a": "board:x86_64"}
    found = resolve("b")
    assert (found.name, found.device.address, found.device.options) == ("b", "two", {"cores": "2,3"})


def test_arm_is_this_machine_if_it_is_one(monkeypatch):
    write('pi = "board:aarch64"\n')
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    found = resolve("arm")
    assert found.name == "host"
    assert "this machine is ARM" in found.reason


def test_arm_is_the_first_configured_board_that_is_one():
    write('desk = "board:x86_64"\ncount = "arm-emu:cortex-a76"\npi = "board:aarch64"\nlast = "board:aarch64"\n')
    found = resolve("arm")
    assert found.name == "pi"
    assert "devices.toml names pi" in found.reason


def test_arm_is_emulated_where_there_is_no_board():
    found = resolve("arm")
    assert found.name == "arm-emu:cortex-a53"
    assert "instructions are counted, not time" in found.reason


def test_a_configured_board_that_does_not_answer_is_no_reason_to_emulate_silently():
    write('pi = "board:away"\n')
    with pytest.raises(MachineError, match="does not answer") as error:
        resolve("arm")
    one_line(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi = 3", "it says not where the device is"),
        ("pi = {}", "it says not where the device is"),
        ('host = "board:x"', "has a meaning of its own"),
        ('arm = "board:x"', "has a meaning of its own"),
        ('"pi;rm" = "board:x"', "cannot be called"),
        ('"" = "board:x"', "cannot be called"),
        ('pi = "ssh2://pi"', "unknown device 'ssh2'"),
        ('pi = "board://-oProxyCommand=id"', "the address of a device will not do"),
        ('pi = "board:a b"', "the address of a device will not do"),
        ('pi = "board:$(id)"', "the address of a device will not do"),
        ('pi = "board:a\\nb"', "the address of a device will not do"),
        ('pi = "board:' + "a" * 300 + '"', "the address of a device will not do"),
        ('pi = { at = "board:x", shell = "sh" }', "no option 'shell'; allowed: cores"),
        ('pi = "host:there"', "takes no address"),
        ('pi = "arm-emu:cortex-a5"', "no core 'cortex-a5'.*did you mean"),
    ],
)
def test_a_row_that_will_not_do_is_refused_in_one_line_when_it_is_asked_for(text, expected):
    write(text + '\nright = "board:x"\n')
    wrong, right = files.configured()
    with pytest.raises(CompressError, match=expected) as error:
        resolve(wrong)
    assert one_line(error).startswith(f"devices.toml: {wrong[:60]!r}: ")
    # It spoils nothing else, and is listed with what is wrong.
    assert resolve(right).device.address == "x"
    assert resolve("estimate").name == "estimate:cortex-a72"
    states = [device.state for device in known_devices() if device.name == wrong]
    assert f"wrong: {error.value}" in states


@pytest.mark.parametrize(("text", "expected"), [("pi = [", "not valid TOML"), ("#" * 70_000, "too large")])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(text, expected):
    write(text)
    for ask in (files.configured, known_devices, lambda: resolve("host")):
        with pytest.raises(CompressError, match=f"devices.toml: {expected}") as error:
            ask()
        one_line(error)


def test_arm_looks_no_further_than_the_first_board_that_is_one():
    write('pi = "board:aarch64"\nbad = 3\n')
    assert resolve("arm").name == "pi"
    write('bad = 3\npi = "board:aarch64"\n')
    with pytest.raises(CompressError, match="'bad': it says not where"):
        resolve("arm")


def test_add_keeps_what_is_there():
    write('# mine\na = "board:x"\n[b]\nat = "board:y"\n')
    files.add("pi", "board://pi@board:22", files.project_file())
    assert {name: entry.at for name, entry in files.configured().items()} == {
        "a": "board:x",
        "pi": "board://pi@board:22",
        "b": "board:y",
    }
    assert Path("devices.toml").read_text().startswith("# mine\n")
    with pytest.raises(CompressError, match="'pi' is there already") as error:
        files.add("pi", "board:z", files.project_file())
    one_line(error)
    with pytest.raises(CompressError, match="unknown device"):
        files.add("other", "nowhere:z", files.project_file())


def test_the_list_contacts_nothing():
    write('pi = "board:away"\n')
    found = {device.name: device for device in known_devices()}
    assert found["arm"].what == "the first of pi that is ARM, else arm-emu:cortex-a53"
    assert found["pi"].state == "not asked"
    assert found["host"].state == "ready"
    assert "board://…" in found


def run(*arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compress", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, *capsys.readouterr()


def test_the_list_is_plain(monkeypatch, capsys):
    code, out, _ = run("devices", "list", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert re.search(r"│ host +│ This machine +│ ready", out)
    assert "`" not in out


def test_a_wrong_row_is_listed_beside_the_others(monkeypatch, capsys):
    write('pi = { at = "board:x", cors = "1" }\ndesk = "board:x"\n')
    code, out, _ = run("devices", "list", "--json", monkeypatch=monkeypatch, capsys=capsys)
    states = {row["name"]: row["state"] for row in json.loads(out)}
    assert code == 0
    assert states["pi"].startswith("wrong: devices.toml: 'pi': a device of this kind has no option 'cors'; ")
    assert states["desk"] == "not asked"


def test_facts_have_units_and_no_gaps(monkeypatch, capsys):
    facts = {
        "architecture": "aarch64",
        "processor": None,
        "temperature_c": 51.5,
        "room_bytes": 3 * 2**30,
        "memory_gb_per_s": 12.8,
        "float32_gops": 11.3,
        "python": "3.11.2",
        "runtime": None,
    }
    monkeypatch.setattr(Board, "facts", lambda _: facts)
    code, out, _ = run("devices", "show", "board:x", monkeypatch=monkeypatch, capsys=capsys)
    rows = dict(re.findall(r"│ (\S[^│]*?) +│ (\S[^│]*?)? +│", out))
    assert code == 0
    assert rows == {
        "device": "board:x",
        "architecture": "aarch64",
        "processor": "unknown",
        "temperature": "51.5 °C",
        "room": "3.0 GiB",
        "memory": "12.8 GB/s",
        "float32": "11.3 · 10⁹ operations/s",
        "python": "3.11.2",
        "runtime": "no onnxruntime",
    }


def test_the_commands(monkeypatch, capsys):
    code, _, told = run("devices", "add", "pi", "board:aarch64", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, told) == (0, "devices.toml: pi is board:aarch64; next: compress devices test pi\n")
    code, out, _ = run("devices", "show", "arm", "--json", monkeypatch=monkeypatch, capsys=capsys)
    assert json.loads(out) == {
        "device": "pi",
        "because": "devices.toml names pi, which is ARM",
        "architecture": "aarch64",
    }
    code, out, told = run("devices", "test", "pi", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert re.search(r"outputs differ by │ 2\.0e-06, allowed 1e-05 .*\n.* works +│ yes", out)
    code, out, told = run("devices", "setup", "pi", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, told) == (0, "nothing to set up\npi is ready\n")
    code, out, _ = run("devices", "list", "--json", monkeypatch=monkeypatch, capsys=capsys)
    assert [row["name"] for row in json.loads(out)][:2] == ["arm", "pi"]
    code, out, told = run("devices", "add", "-x", "--", "board:x", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2


@pytest.mark.parametrize(
    ("parity", "notes", "said"),
    [(2e-5, (), "2.0e-05, allowed 1e-05"), (None, ("output 'y' holds infinities",), "not compared")],
)
def test_a_device_that_computes_something_else_or_nothing_to_compare_does_not_work(
    parity, notes, said, monkeypatch, capsys
):
    monkeypatch.setattr(Board, "parity", parity)
    monkeypatch.setattr(Board, "notes", notes)
    code, out, _ = run("devices", "test", "board:x", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1
    assert said in out
    assert re.search(r"works +│ NO", out)
    assert all(note in out for note in notes)


def test_this_machine_is_compared_with_itself(monkeypatch, capsys):
    code, out, _ = run("devices", "test", "host", "--json", monkeypatch=monkeypatch, capsys=capsys)
    found = json.loads(out)
    assert (code, found["passed"], found["parity"]) == (0, True, 0.0)


def test_of_an_estimate_nothing_is_said_to_work(monkeypatch, capsys):
    code, out, _ = run("devices", "test", "estimate", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert "none: this is computed, no model runs" in out
    assert "│ works" not in out
    assert "differ" not in out


def test_profile_says_which_device_it_was_and_keeps_the_result(monkeypatch, capsys):
    write('pi = "board:aarch64"\n')
    arguments = ("profile", small(), "--device", "arm", "--markdown", "out.md")
    code, out, told = run(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert "device 'arm' is pi: devices.toml names pi, which is ARM" in told
    assert "kept as export/m/pi/profile.json" in told
    assert "note: devices.toml names pi, which is ARM" in out
    kept = read_kept(Path("export/m/pi/profile.json"))
    assert (kept.device, kept.unit, kept.minimum) == ("pi", "us", 100)
    assert "| p50 µs |" in Path("out.md").read_text()


def test_results_of_namesakes_do_not_overwrite_each_other():
    first, second = small("a/model.onnx"), small("b/model.onnx")
    third = Path("c/model.onnx")
    third.parent.mkdir()
    third.write_bytes(first.read_bytes())
    reports = profile([first, second], ProfileSettings(device="counter"))
    assert {path.parts[1] for path in keep(reports, Path("export"))} == {"a", "b"}
    copies = [Path("x/a.onnx"), Path("y/a.onnx")]
    for path in copies:
        small(path)
    copies[1].write_bytes(copies[1].read_bytes() + b"\x32\x00")
    reports = profile(copies, ProfileSettings(device="counter"))
    assert len({path.parts[1] for path in keep(reports, Path("export"))}) == 2


def baseline(where, **changed) -> ProfileReport:
    (report,) = profile([small("old.onnx")], ProfileSettings(device=where))
    return ProfileReport.from_dict(report.to_dict() | changed)


def test_a_baseline_is_left_as_it_is():
    small("old.onnx")
    (written,) = keep(profile([Path("old.onnx")], ProfileSettings(device="board:x")), Path("export"))
    before = written.read_bytes()
    again = profile([small()], ProfileSettings(device="board:x"), baseline=read_kept(written))
    again = [dataclasses.replace(report, runs=report.runs + 1) for report in again]
    (other,) = keep(again, Path("export"), but=Path("export") / ".." / written)
    assert other != written
    assert written.read_bytes() == before
    assert keep(again, Path("export"))[0] == written
    assert written.read_bytes() != before


@pytest.mark.parametrize(("load", "told"), [(5.8, True), (2.0, False), (None, False)])
def test_a_busy_machine_is_told(monkeypatch, load, told):
    def busy(measured):
        return [dataclasses.replace(one, machine={"load_average": load, "cores": 2}) for one in measured]

    plain = Board.measure
    monkeypatch.setattr(Board, "measure", lambda *given: busy(plain(*given)))
    (report,) = profile([small()], ProfileSettings(device="board:x"))
    assert any("the machine was busy (load average 5.8 on 2 cores)" in note for note in report.notes) == told


def test_a_count_is_compared_with_one_that_was_kept():
    kept = baseline("counter:x", minimum=200.0)
    (report,) = profile([small()], ProfileSettings(device="counter:x"), baseline=kept)
    assert report.ratio.ratio == 0.5
    assert report.ratio.verdict == "fewer instructions"
    assert report.compared_to == kept.model_sha256


def test_a_time_is_taken_again_with_the_baselines_file_if_that_is_still_there():
    kept = baseline("board:x", minimum=77.0)
    again, report = profile([small()], ProfileSettings(device="board:x"), baseline=kept)
    assert again.model == "old.onnx"
    assert again.ratio is None
    assert report.ratio.ratio == 2.0
    Path("old.onnx").unlink()
    (report,) = profile([small()], ProfileSettings(device="board:x"), baseline=kept)
    assert report.ratio == distant_ratio(100, 77)
    assert any("another run" in note for note in report.notes)


@pytest.mark.parametrize("changed", [{"device": "board:y"}, {"threads": 2}, {"batch_size": 4}])
def test_a_baseline_of_something_else_is_refused(changed):
    kept = baseline("board:x", model="gone.onnx", **changed)
    with pytest.raises(CompressError, match="the baseline was measured with") as error:
        profile([small()], ProfileSettings(device="board:x"), baseline=kept)
    one_line(error)


def test_a_baseline_that_is_none():
    write("{}", Path("p.json"))
    with pytest.raises(CompressError, match=r"baseline p\.json: profile report: ") as error:
        read_kept(Path("p.json"))
    one_line(error)
    with pytest.raises(
        CompressError, match=r"^no\.json: cannot be read .*No such file.*; next: name the profile\.json"
    ):
        read_kept(Path("no.json"))


def test_what_may_be_concluded():
    assert counted_ratio(100, 100).verdict == "no difference measured"
    assert counted_ratio(99.95, 100).verdict == "no difference measured"
    assert counted_ratio(99.8, 100).verdict == "fewer instructions"
    assert counted_ratio(100.2, 100).verdict == "more instructions"
    assert distant_ratio(95, 100).verdict == "no difference measured"
    assert distant_ratio(90, 100).verdict == "faster"
    assert bounded_ratio(10, 100, 0.41).verdict == "a bound"


@pytest.mark.parametrize("name", [name for name in devices.names() if name not in ("board", "counter")])
def test_every_device_keeps_the_contract(name):
    cls = devices.get(name)
    assert issubclass(cls, Device)
    summary = cls.__doc__.splitlines()[0]
    assert summary.endswith(".")
    # A user reads it in `compress devices list`.
    assert not set(summary) & set("`_(){}")
    with pytest.raises(CompressError, match="no option 'nonsense'"):
        cls("", {"nonsense": 1})
    if not cls.REMOTE:
        told = []
        device = cls("", {}, told.append)
        assert device.facts()["architecture"]
        assert device.missing() is None or "next: " in device.missing()


def test_the_runner_is_found():
    assert RUNNER.is_file()
