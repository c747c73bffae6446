"""Tiny ImageNet: the official folder in small, and every way in which it can be broken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data import load_dataset
from compress.data.sets.tiny_imagenet import TinyImagenet, read_tiny_imagenet
from compress.errors import DataError
from compress.recipe import DataSettings

SMALL_TINY = TinyImagenet(classes=3, class_images=4, test_images=5, side=64)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_tiny(root):
    """Three classes whose ids are not in sorted order; JPEGs of one colour each."""
    place = root / "tiny-imagenet-200"
    wnids = ["n03", "n01", "n02"]
    write(place / "wnids.txt", "\n".join(wnids).encode() + b"\n")
    for number, wnid in enumerate(wnids):
        (place / "train" / wnid / "images").mkdir(parents=True)
        for index in range(4):
            colour = (80 * number, 10 * index, 200)
            Image.new("RGB", (64, 64), colour).save(
                place / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", quality=95
            )
    (place / "val" / "images").mkdir(parents=True)
    lines = []
    for index in range(5):
        Image.new("L", (64, 64), 50 * index).save(place / "val" / "images" / f"val_{index}.JPEG", quality=95)
        lines.append(f"val_{index}.JPEG\t{wnids[index % 3]}\t0\t0\t63\t63\n")
    write(place / "val" / "val_annotations.txt", "".join(lines).encode())
    return place


def test_tiny_imagenet_is_labelled_by_sorted_id_and_tested_on_its_annotated_images(tmp_path):
    write_tiny(tmp_path)
    raw = read_tiny_imagenet(SMALL_TINY, [tmp_path])
    assert raw.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert raw.train.images.shape == (12, 3, 64, 64)
    # n01 is written second (red 80), n02 third (160), n03 first (0); JPEG moves a flat colour by a step or two.
    np.testing.assert_allclose(raw.train.images[::4, 0, 5, 5].astype(int), [80, 160, 0], atol=3)
    np.testing.assert_allclose(raw.train.images[:4, 1, 5, 5].astype(int), [0, 10, 20, 30], atol=3)
    assert raw.test.labels.tolist() == [2, 0, 1, 2, 0]
    np.testing.assert_allclose(
        raw.test.images[:, :, 9, 9].astype(int), np.repeat(np.arange(5)[:, None] * 50, 3, 1), atol=2
    )


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda p: (p / "wnids.txt").write_text("n01\nn02\n"),
            "wnids.txt: wrong number of WordNet ids; got 2; allowed: 3",
        ),
        (lambda p: (p / "wnids.txt").write_bytes(b"\xff\xfe"), "wnids.txt: cannot be read"),
        (
            lambda p: (p / "train/n02/images/n02_1.JPEG").unlink(),
            r"n02/images: wrong number of images .*got 3; allowed: 4",
        ),
        (lambda p: (p / "val/images/val_3.JPEG").unlink(), "val_3.JPEG: not a readable image"),
        (
            lambda p: (p / "val/val_annotations.txt").write_text("val_0.JPEG\tn09\n"),
            "annotations.txt:1: not an annotation",
        ),
        (lambda p: (p / "val/val_annotations.txt").write_text("val_0.JPEG\tn01\n"), "wrong number of lines; got 1"),
        (
            lambda p: Image.new("RGB", (32, 64)).save(p / "train/n01/images/n01_2.JPEG"),
            "n01_2.JPEG: size differs; got 32x64 pixels; allowed: 64x64",
        ),
    ],
)
def test_tiny_imagenet_errors(tmp_path, harm, message):
    harm(write_tiny(tmp_path))
    with pytest.raises(DataError, match=message):
        read_tiny_imagenet(SMALL_TINY, [tmp_path])


def test_tiny_imagenet_lists_what_it_needs(tmp_path):
    with pytest.raises(
        DataError, match=r"put tiny-imagenet-200/wnids.txt, tiny-imagenet-200/train, tiny-imagenet-200/val/"
    ):
        load_dataset(DataSettings(source="tiny-imagenet-200"), base=tmp_path, seed=0)
