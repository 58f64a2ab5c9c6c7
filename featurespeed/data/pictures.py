"""From one JPEG or PNG file to a square of pixels, or the reason why not. Nothing but these two formats is opened.

Grey, palette and CMYK images become RGB, transparency is dropped, 16 bits become 8. A rotation noted in a file (EXIF)
is left alone, as most loaders of these sets leave it. The central square is scaled so that it fits; a JPEG file that is
more than twice as large is scaled down by 2, 4 or 8 while it is decoded, which saves most of the time.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 89_478_485  # of a file; more is taken for an attack or a mistake: 256 MB once decoded
FORMATS = ("JPEG", "PNG")


class Damaged(ValueError):
    """A file that gives no image; the text is the reason."""


def read_file(path: Path | str) -> bytes:
    """The bytes of a file. Raises Damaged."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Damaged(error.strerror or type(error).__name__) from None


def decode_square(data: bytes, side: int) -> np.ndarray:
    """The central square of an image, scaled to `side` pixels, as RGB uint8 [3, side, side]. Raises Damaged."""
    if not data:
        raise Damaged("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of Pillow on metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _square(image, side)
    except UnidentifiedImageError:
        raise Damaged("neither JPEG nor PNG") from None
    except Damaged:
        raise
    except Image.DecompressionBombError:
        raise Damaged(f"more than {MOST_PIXELS} pixels") from None
    except MemoryError:
        raise Damaged("too large for the memory") from None
    except Exception as error:  # damaged bytes make Pillow's readers raise a dozen kinds
        raise Damaged(str(error).partition("\n")[0] or type(error).__name__) from None


def _square(image: Image.Image, side: int) -> np.ndarray:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise Damaged(f"{width} x {height} pixels, more than {MOST_PIXELS}")
    image.draft(None, (side, side))  # never below this size; other formats do nothing
    rgb = _rgb(image)
    width, height = rgb.size
    edge = min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    if (width, height) != (side, side):
        rgb = rgb.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(max=255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
