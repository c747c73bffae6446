import errno
import stat
from pathlib import Path

import pytest

from compress.artifact import (
    atomic_path,
    cleanup_partial,
    folder_for,
    read_json,
    require_file,
    require_target,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
    write_text,
)
from compress.errors import MachineError, ModelFileError


def test_hashes():
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_file_appears_whole_with_its_folders_and_the_users_permissions(tmp_path):
    write_text(tmp_path / "a/b/f.txt", "é")
    assert (tmp_path / "a/b/f.txt").read_bytes() == b"\xc3\xa9"
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "a/b/f.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "f"
    target.write_text("old")

    def half():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left to write .*; next: free some disk space"),
        (errno.EROFS, "cannot write .*Read-only"),
    ],
)
def test_a_disk_that_refuses(tmp_path, monkeypatch, number, message):
    def refused(path, data):
        raise OSError(number, "No space left on device" if number == errno.ENOSPC else "Read-only file system")

    write_bytes(tmp_path / "f", b"old")
    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(MachineError, match=message) as error:
        write_bytes(tmp_path / "f", b"new")
    assert error.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(MachineError, match="cannot write"):
        write_bytes(tmp_path / "f/g", b"")
    with pytest.raises(MachineError, match="cannot write"):
        require_target(tmp_path / "f/g")


def test_a_target_is_tried_without_leaving_anything(tmp_path):
    require_target(tmp_path / "new/f")
    require_target(tmp_path / "further" / "new" / "f")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    require_target(tmp_path / "old" / "f")
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]
    with pytest.raises(ModelFileError, match="it is a folder; next: name a file inside it"):
        require_target(tmp_path)


def test_what_is_read_is_no_target_by_whatever_name(tmp_path):
    source, other = tmp_path / "f", tmp_path / "g"
    (tmp_path / "new").mkdir()
    require_target(source, source)
    source.write_text("read")
    (tmp_path / "link").symlink_to(source)
    for name in (source, tmp_path / "new" / ".." / "f", tmp_path / "link"):
        with pytest.raises(
            ModelFileError, match="it is the file that is read, and would be lost; next: write to another"
        ):
            require_target(name, other, source)
    other.write_text("read")
    require_target(other, source)


def test_a_folder_that_nothing_was_put_into_goes_again(tmp_path):
    (tmp_path / "a").mkdir()
    with folder_for(tmp_path / "a" / "b" / "c"):
        assert (tmp_path / "a" / "b" / "c").is_dir()
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]
    with folder_for(tmp_path / "a" / "b" / "c"):
        (tmp_path / "a" / "b" / "f").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "f"]


def test_json_goes_there_and_back_and_nan_is_refused(tmp_path):
    write_json(tmp_path / "f", {"a": [1, None]})
    assert read_json(tmp_path / "f") == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f", float("nan"))
    assert read_json(tmp_path / "f") == {"a": [1, None]}


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_what_is_not_json(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ModelFileError, match="cannot be read as JSON"):
        read_json(tmp_path / "f")


def test_only_readable_files_with_content_pass(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("x")
    assert require_file(tmp_path / "full", "model") == tmp_path / "full"
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no", "does not exist"),
        (tmp_path / "empty", "is empty"),
    ):
        with pytest.raises(ModelFileError, match=message):
            require_file(path, "model")


def test_leftovers_go_those_of_others_stay(tmp_path):
    (tmp_path / ".model.onnx.x1.partial").touch()
    (tmp_path / "mine.partial").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/.f.x2.partial").touch()
    told = []
    cleanup_partial(tmp_path, told.append)
    assert sorted(path.name for path in tmp_path.rglob("*partial")) == [".f.x2.partial", "mine.partial"]
    assert len(told) == 1
    cleanup_partial(tmp_path / "absent")
