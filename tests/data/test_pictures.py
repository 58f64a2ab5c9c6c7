"""One file becomes a square of pixels, whatever its colours and its size, or a reason why not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from featurespeed.data.pictures import Damaged, decode_square, read_file
from tests.data.folder_cases import SIDE, encoded, huge_png, jpeg, pixels


def reason(data: bytes, side: int = SIDE) -> str:
    with pytest.raises(Damaged) as caught:
        decode_square(data, side)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def planes(image: np.ndarray) -> np.ndarray:
    return image.transpose(2, 0, 1)


def test_an_image_of_the_right_size_keeps_every_pixel():
    image = pixels(1)
    found = decode_square(encoded(image, "PNG"), SIDE)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, planes(image))


def test_grey_images_get_three_equal_channels():
    grey = pixels(2, channels=1)
    for form, most in (("PNG", 0), ("JPEG", 3)):
        found = decode_square(encoded(grey, form), SIDE)
        assert (found == found[0]).all() and np.abs(found[0].astype(int) - grey).mean() <= most


def test_colours_of_cmyk_are_those_of_the_image():
    image = pixels(3)
    found = decode_square(encoded(image, "JPEG", "CMYK", quality=100), SIDE)
    assert np.abs(found.astype(int) - planes(image)).mean() < 4


def test_palettes_and_transparency_become_plain_colours():
    image = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    image[:8] = (200, 40, 0, 255)
    image[8:] = (10, 20, 250, 0)  # transparent, and still blue
    found = decode_square(encoded(image, "PNG"), SIDE)
    np.testing.assert_array_equal(found, planes(image[..., :3]))
    buffer = io.BytesIO()
    Image.fromarray(image[..., :3]).quantize(2).save(buffer, "PNG", transparency=0)
    np.testing.assert_array_equal(decode_square(buffer.getvalue(), SIDE), planes(image[..., :3]))


def test_16_bits_become_8():
    deep = (np.arange(SIDE * SIDE, dtype=np.uint16) * 256 + 17).reshape(SIDE, SIDE)
    found = decode_square(encoded(deep, "PNG"), SIDE)
    np.testing.assert_array_equal(found[1], (deep >> 8).astype(np.uint8))


def test_a_rotation_noted_in_the_file_is_left_alone():
    image = pixels(4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    np.testing.assert_array_equal(decode_square(encoded(image, "PNG", exif=exif), SIDE), planes(image))
    turned, plain = (decode_square(encoded(image, **options), SIDE) for options in ({"exif": exif}, {}))
    np.testing.assert_array_equal(turned, plain)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_the_central_square_of_a_larger_image_is_scaled(height, width):
    """Of a ramp along the longer side, the square holds the middle."""
    along = np.arange(max(height, width)) * 5.0
    image = np.broadcast_to(along if width > height else along[:, None], (height, width))
    found = decode_square(encoded(np.round(image).astype(np.uint8), "PNG"), 12)[0].astype(float)
    expected = (np.arange(12) + 0.5) * 2 * 5 + 8 * 5 - 2.5  # two pixels become one, after eight that are cut off
    line = found[6] if width > height else found[:, 6]
    assert np.abs(line - expected)[1:-1].max() <= 1 and np.ptp(found, axis=0 if width > height else 1).max() <= 1


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_to_the_same_picture():
    image = pixels(5, 400, 400)
    exact = np.asarray(Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR))
    found = decode_square(encoded(image, quality=95), 40)
    assert found.shape == (3, 40, 40) and np.abs(found.astype(int) - planes(exact)).max() <= 6


def test_an_image_of_extreme_shape_takes_no_memory():
    assert decode_square(encoded(np.full((1, 60_000), 9, np.uint8), "PNG"), 64).max() == 9


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (jpeg(1, 64, 64)[:-300], "truncated"),
        (jpeg(1)[:40], ""),
        (b"no image at all, but a text\n" * 9, "neither JPEG nor PNG"),
        (encoded(pixels(1), "BMP"), "neither JPEG nor PNG"),
        (huge_png(), "10000 x 10000 pixels, more than 89478485"),
    ],
    ids=["empty", "truncated", "header only", "text", "other format", "oversized"],
)
def test_what_gives_no_image_is_told_in_a_few_words(data, words):
    assert words in reason(data)


def test_files_that_cannot_be_read_are_damaged(tmp_path, monkeypatch):
    with pytest.raises(Damaged, match="^No such file or directory$"):
        read_file(tmp_path / "missing.JPEG")
    with pytest.raises(Damaged, match="^Is a directory$"):
        read_file(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(Damaged, match="^Permission denied$"):
        read_file(tmp_path / "secret.JPEG")
