"""Sizes and colours on display: every format, orientation, mode and depth that files come in."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tokenlens.errors import SampleError
from tokenlens.samples.pictures import as_rgb, open_picture, picture_size

ORIENTATION = 0x0112
TURNED = {"JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF"}
"""Formats that keep an orientation."""
CORNERS = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
"""Whether what is stored at the top left is shown at the right, and below."""
FORMATS = [
    *sorted(TURNED if features.check("avif") else TURNED - {"AVIF"}),
    "GIF",
    "BMP",
    "JPEG2000",
    "PPM",
    "TGA",
    "ICO",
    "PCX",
    "QOI",
    "DDS",
]


def rotated(path: Path, format_: str, orientation: int, **options: object) -> Path:
    """A picture stored 40 x 20 (an icon 16 x 8) whose top left corner is red."""
    size = (16, 8) if format_ == "ICO" else (40, 20)
    stored = Image.new("RGB", size, "white")
    stored.paste("red", (0, 0, 10, 5))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(path, format=format_, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", FORMATS)
def test_the_size_is_that_of_the_opened_picture(
    tmp_path: Path, format_: str, orientation: int
) -> None:
    path = rotated(tmp_path / "p", format_, orientation)
    picture = open_picture(path)
    assert picture_size(path) == picture.size
    width, height = (16, 8) if format_ == "ICO" else (40, 20)
    turned = format_ in TURNED and orientation > 4
    assert picture.size == ((height, width) if turned else (width, height))
    right, low = CORNERS[orientation] if format_ in TURNED else (0, 0)
    corner = ((picture.width - 1) * right, (picture.height - 1) * low)
    red, green, _ = picture.getpixel(corner)
    assert red > 200 > 100 > green, "the corner stands where the orientation puts it"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_deflate"])
def test_compressed_tiffs_too(tmp_path: Path, compression: str, orientation: int) -> None:
    path = rotated(tmp_path / "p.tif", "TIFF", orientation, compression=compression)
    assert picture_size(path) == open_picture(path).size


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, kind: int, *late: bytes) -> bytes:
    """A PNG of 16 bits a channel; chunks that come `late` stand after the pixels."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), *late, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("place", ["exif", "xmp"])
def test_an_orientation_after_the_pixels_of_a_png_is_seen(tmp_path: Path, place: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6' tiff:Orientation=\"6\"/>"
    late = {"exif": (b"eXIf", exif.tobytes()[6:]), "xmp": (b"iTXt", xmp)}[place]
    path = tmp_path / "p.png"
    path.write_bytes(png(np.full((20, 40, 3), 65535), 2, chunk(*late)))
    assert picture_size(path) == open_picture(path).size == (20, 40)
    path.write_bytes(png(np.full((20, 40, 3), 65535), 2, chunk(b"tEXt", b"Software\0none")))
    assert picture_size(path) == open_picture(path).size == (40, 20)


@pytest.mark.parametrize("white", [1023, 4095, 16383, 65535])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_fewer_bits_than_its_file_has_room_for(
    tmp_path: Path, suffix: str, white: int
) -> None:
    ramp = np.linspace(0, white, 256).round().astype(np.uint16)[None].repeat(4, axis=0)
    Image.fromarray(ramp).save(tmp_path / f"p.{suffix}")
    shown = np.asarray(open_picture(tmp_path / f"p.{suffix}"))[0, :, 0]
    assert np.abs(shown.astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("kind", [2, 6])
def test_colour_of_twelve_bits_in_sixteen(tmp_path: Path, kind: int) -> None:
    channels = {2: 3, 6: 4}[kind]
    values = np.random.default_rng(0).integers(0, 4096, (8, 9, channels))
    values[0, 0, :3] = 4095
    if channels == 4:
        values[..., 3] = 4095
    (tmp_path / "p.png").write_bytes(png(values, kind))
    shown = np.asarray(open_picture(tmp_path / "p.png")).astype(int)
    assert np.abs(shown - values[..., :3] * (255 / 4095)).max() <= 0.5
    (tmp_path / "q.png").write_bytes(png(values * 16, kind))
    control = np.asarray(open_picture(tmp_path / "q.png")).astype(int)
    assert np.abs(control - values[..., :3] / 16).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_colour_tiff_of_twelve_bits_in_sixteen(tmp_path: Path, order: str) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (6, 5, 3))
    values[0, 0] = 4095
    (tmp_path / "p.tif").write_bytes(colour_tiff(values, order))
    picture = open_picture(tmp_path / "p.tif")
    assert np.abs(np.asarray(picture) - values * (255 / 4095)).max() <= 0.5


def colour_tiff(values: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of 16 bits a channel, in one strip."""
    height, width, _ = values.shape
    start = 8 + 2 + 9 * 12 + 4
    fields = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, start), (259, 3, 1, 1)]
    fields += [(262, 3, 1, 2), (273, 4, 1, start + 6), (277, 3, 1, 3), (278, 4, 1, height)]
    fields += [(279, 4, 1, values.size * 2)]
    body = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(fields))
    for tag, kind, count, value in fields:
        packed = "HH" if kind == 3 and count == 1 else "I"
        shown = (value, 0) if packed == "HH" else (value,)
        body += struct.pack(f"{order}HHI{packed}", tag, kind, count, *shown)
    body += struct.pack(f"{order}I3H", 0, 16, 16, 16)
    return body + values.astype(f"{order}u2").tobytes()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 2048.0, 4095.0], [0, 128, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_numbers_with_a_fraction(tmp_path: Path, values: list[float], shown: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "p.tif")
    assert np.asarray(open_picture(tmp_path / "p.tif"))[0, :, 0].tolist() == shown


def test_modes_that_few_files_have() -> None:
    grey = Image.new("LA", (2, 1), (0, 0))
    grey.putpixel((1, 0), (100, 255))
    assert np.asarray(as_rgb(grey))[0, :, 0].tolist() == [255, 100]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = bytes([255, 0])
    assert np.asarray(as_rgb(palette)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert np.asarray(as_rgb(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]
    assert np.asarray(as_rgb(Image.new("CMYK", (1, 1), (0, 255, 255, 0))))[0, 0, 0] > 200
    lab = as_rgb(Image.new("LAB", (1, 1), (255, 128, 128)))
    assert lab.mode == "RGB"
    assert min(lab.getpixel((0, 0))) > 245
    assert as_rgb(Image.new("HSV", (1, 1), (0, 255, 255))).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_shown(tmp_path: Path, format_: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    path = tmp_path / "p"
    frames[0].save(path, format=format_, save_all=True, append_images=frames[1:])
    picture = open_picture(path)
    assert picture_size(path) == picture.size == (8, 6)
    red, _, blue = picture.getpixel((4, 3))
    assert red > 200 > 60 > blue


def large(path: Path, width: int, height: int) -> Path:
    """A picture of one bit a pixel, written without ever being held in memory."""
    rows = zlib.compressobj()
    line = b"\0" + bytes((width + 7) // 8)
    data = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("size", [(10_000, 10_000), (20_000, 15_000), (60_000, 60_000)])
def test_pictures_of_100_megapixels_are_refused_in_one_line(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = large(tmp_path / "p.png", *size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for read in (picture_size, open_picture):
            with pytest.raises(SampleError, match=r"p\.png: .*100 megapixels or more") as caught:
                read(path)
            assert "\n" not in str(caught.value)
            assert "bomb" not in str(caught.value)


def test_a_little_less_is_taken_without_a_warning(tmp_path: Path) -> None:
    path = large(tmp_path / "p.png", 10_000, 9_999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture_size(path) == (10_000, 9_999)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(path.read_bytes()))  # the control
