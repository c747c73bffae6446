"""Folders of images: both layouts, every pixel mode, and every way in which a folder can be broken."""

import numpy as np
import pytest
from PIL import Image

from compress.data import load_dataset
from compress.data.image_folder import read_folder
from compress.data.images import read_images
from compress.errors import DataError
from compress.recipe import DataSettings


def pixels(seed, height=6, width=6):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def fill(folder, classes=("ant", "bee"), count=10, seed=0, **size):
    """Writes PNG images into one folder a class and returns class → images."""
    written = {}
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        written[name] = [pixels([seed, number, index], **size) for index in range(count)]
        for index, image in enumerate(written[name]):
            Image.fromarray(image).save(folder / name / f"{index:02}.png")
    return written


def content(images):
    return {image.tobytes() for image in images}


def test_class_folders_give_a_fixed_stratified_test_split_and_every_image_once(tmp_path):
    written = fill(tmp_path / "images", ("b", "a", "c"))
    data = [load_dataset(DataSettings(source="images"), base=tmp_path, seed=seed) for seed in (0, 1)]
    first, second = data
    assert (first.classes, first.input_shape) == (3, (3, 6, 6))
    assert np.bincount(first.test.labels).tolist() == [2, 2, 2]
    assert np.bincount(first.validation.labels, minlength=3).tolist() == [1, 1, 0]
    assert content(first.test.images) == content(second.test.images)
    assert content(first.validation.images) != content(second.validation.images)
    for label, name in enumerate("abc"):
        expected = content(image.transpose(2, 0, 1) for image in written[name])
        splits = [s.images[s.labels == label] for s in (first.train, first.validation, first.test)]
        assert set().union(*map(content, splits)) == expected
        assert sum(map(len, splits)) == 10


def test_the_test_split_does_not_depend_on_file_names(tmp_path):
    fill(tmp_path / "one")
    fill(tmp_path / "two")
    for index, path in enumerate(sorted((tmp_path / "two" / "ant").iterdir())):
        path.rename(path.with_name(f"x{99 - index}.png"))
    one, two = (read_folder(tmp_path / name, None) for name in ("one", "two"))
    assert content(one.test.images) == content(two.test.images)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_train_val_and_test_folders_are_used_as_they_are(tmp_path, name):
    parts = {part: fill(tmp_path / part, seed=seed, count=3) for seed, part in enumerate(("train", name, "test"))}
    data = load_dataset(DataSettings(source=str(tmp_path)), base=tmp_path, seed=0)
    for split, part in ((data.train, "train"), (data.validation, name), (data.test, "test")):
        images = [image.transpose(2, 0, 1) for label in ("ant", "bee") for image in parts[part][label]]
        np.testing.assert_array_equal(split.images, images)
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_without_val_a_share_of_train_is_held_out(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", seed=9)
    data = load_dataset(DataSettings(source=str(tmp_path), validation=0.2), base=tmp_path, seed=0)
    assert np.bincount(data.validation.labels).tolist() == [2, 2]
    assert len(data.train) == 16
    assert not content(data.train.images) & content(data.validation.images)


def test_mean_and_std_come_from_the_training_split_alone(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", seed=9)
    data = load_dataset(DataSettings(source=str(tmp_path)), base=tmp_path, seed=0)
    values = data.train.images / 255
    np.testing.assert_allclose(data.test.mean, values.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.test.std, values.std((0, 2, 3)), rtol=1e-12)


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, ("plane", "train"))
    assert read_folder(tmp_path, None).classes == 2


def test_what_is_no_image_is_passed_over(tmp_path):
    fill(tmp_path)
    (tmp_path / "ant" / "notes.txt").write_text("x")
    (tmp_path / "ant" / "._00.png").write_text("x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "labels.csv").write_text("x")
    raw = read_folder(tmp_path, None)
    assert raw.classes == 2
    assert len(raw.train.labels) + len(raw.test.labels) == 20


def test_different_sizes_need_image_size(tmp_path):
    fill(tmp_path, ("ant",), height=8, width=5)
    fill(tmp_path, ("bee",))
    message = (
        r"bee/00.png: size differs from that of .*ant/00.png; got 6x6 .*allowed: 5x8; next: set \[data\] image_size"
    )
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path, None)
    raw = read_folder(tmp_path, 4)
    assert raw.train.images.shape[1:] == (3, 4, 4)
    data = load_dataset(DataSettings(source=str(tmp_path), image_size=4), base=tmp_path, seed=0)
    assert data.input_shape == (3, 4, 4)


def test_equal_sizes_need_no_image_size_and_no_square(tmp_path):
    fill(tmp_path, height=5, width=8)
    assert load_dataset(DataSettings(source=str(tmp_path)), base=tmp_path, seed=0).input_shape == (3, 5, 8)


def test_resizing_is_bilinear(tmp_path):
    image = Image.fromarray(pixels(0, 12, 12))
    image.save(tmp_path / "a.png")
    expected = np.asarray(image.resize((5, 5), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_images([tmp_path / "a.png"], image_size=5)[0], expected)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tiff", ".PNG"])
def test_lossless_formats_come_back_byte_for_byte(tmp_path, suffix):
    Image.fromarray(pixels(0)).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_images([tmp_path / f"a{suffix}"])[0], pixels(0).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_pixel_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    colour = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    colour.save(path)
    np.testing.assert_array_equal(read_images([path])[0], np.full((3, 4, 4), 255))


def test_grey_is_repeated_and_transparency_dropped(tmp_path):
    grey = pixels(1)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([pixels(2), pixels(3)[:, :, :1]])).save(tmp_path / "alpha.png")
    both = read_images([tmp_path / "grey.png", tmp_path / "alpha.png"])
    np.testing.assert_array_equal(both[0], [grey] * 3)
    np.testing.assert_array_equal(both[1], pixels(2).transpose(2, 0, 1))


def test_a_palette_with_transparent_entries_is_read_without_a_warning(tmp_path):
    image = Image.fromarray(pixels(0)).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_images([tmp_path / "a.png"])[0], expected)


def damage_jpeg(path):
    Image.fromarray(pixels(0, 64, 64)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: (p / "ant" / "05.png").write_bytes(b""), "ant/05.png: not a readable image"),
        (lambda p: (p / "ant" / "05.png").write_text("hello"), "ant/05.png: not a readable image"),
        (
            lambda p: (p / "ant" / "05.png").write_bytes((p / "ant" / "05.png").read_bytes()[:90]),
            "ant/05.png: not a readable image",
        ),
        (lambda p: damage_jpeg(p / "ant" / "05.png"), "ant/05.png: not a readable image .*truncated"),
        (
            lambda p: Image.fromarray(np.full((6, 6), 40000, np.uint16)).save(p / "ant" / "05.png"),
            "ant/05.png: pixels of more than 8 bits; got mode I;16",
        ),
        (lambda p: (p / "cow").mkdir(), "class folder .*cow holds no image"),
        (lambda p: [x.unlink() for x in (p / "bee").iterdir()], "class folder .*bee holds no image"),
    ],
)
def test_a_damaged_folder_is_one_line_that_names_the_file(tmp_path, harm, message):
    folder = tmp_path / "images"
    fill(folder)
    harm(folder)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(DataSettings(source="images"), base=tmp_path, seed=0)
    assert "\n" not in str(caught.value)
    assert "next: " in str(caught.value)


def test_a_huge_image_is_refused(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(DataError, match=r"ant/00.png: not a readable image .*decompression bomb"):
        read_folder(tmp_path, None)


def test_too_few_classes(tmp_path):
    fill(tmp_path / "one", ("ant",))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="one: fewer than two class folders; got ant; next: make one folder a class"):
        read_folder(tmp_path / "one", None)
    with pytest.raises(DataError, match="none: fewer than two class folders; got none"):
        read_folder(tmp_path / "none", None)


def test_too_few_images_for_a_test_split(tmp_path):
    fill(tmp_path, count=1)
    with pytest.raises(DataError, match="too few images to hold out a test split; got 2"):
        read_folder(tmp_path, None)


def test_the_parts_must_have_the_same_classes(tmp_path):
    fill(tmp_path / "train")
    with pytest.raises(DataError, match=r"has train/ but no test/"):
        read_folder(tmp_path, None)
    fill(tmp_path / "test", ("ant",))
    with pytest.raises(DataError, match=r"class folder .*test/bee is missing"):
        read_folder(tmp_path, None)
    fill(tmp_path / "test", ("bee", "cow"))
    with pytest.raises(DataError, match=r"test/cow is a class that train/ lacks; allowed: .*ant, bee"):
        read_folder(tmp_path, None)


def test_test_without_train_is_not_taken_for_classes(tmp_path):
    fill(tmp_path / "test")
    fill(tmp_path / "val")
    with pytest.raises(DataError, match=r"has test/ but no train/"):
        read_folder(tmp_path, None)
