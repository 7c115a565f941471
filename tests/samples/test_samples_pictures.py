"""Whatever a picture file holds, RGB pixels as a person sees them, or one clear line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenlens.errors import SampleError
from tokenlens.samples.pictures import as_rgb, open_picture, picture_size

ORIENTATION = 0x0112


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "1", "CMYK", "RGBA", "I;16", "YCbCr"])
def test_every_mode_becomes_rgb_with_its_colours(tmp_path: Path, mode: str) -> None:
    grey = mode in ("L", "LA", "1", "I;16")
    colour = (255, 255, 255) if grey else (200, 30, 40)
    path = tmp_path / ("p.tif" if mode in ("CMYK", "YCbCr") else "p.png")
    if mode == "I;16":
        Image.fromarray(np.full((6, 8), 65535, dtype=np.uint16)).save(path)
    else:
        plain = Image.new("RGB", (8, 6), colour)
        (plain.quantize(4) if mode == "P" else plain.convert(mode)).save(path)
    picture = open_picture(path)
    assert picture.mode == "RGB"
    assert picture.size == picture_size(path) == (8, 6)
    assert np.abs(np.asarray(picture).astype(int) - colour).max() <= 3


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None]
    values = np.asarray(as_rgb(Image.fromarray(ramp)))[0, :, 0]
    assert values.tolist() == list(range(256))


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(as_rgb(clear)).tolist() == [[[255, 255, 255], [10, 20, 30]]]
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert np.asarray(as_rgb(palette)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, (0, 0)),
        (2, (5, 0)),
        (3, (5, 3)),
        (4, (0, 3)),
        (5, (0, 0)),
        (6, (3, 0)),
        (7, (3, 5)),
        (8, (0, 5)),
    ],
)
def test_exif_orientation_is_applied(
    tmp_path: Path, orientation: int, corner: tuple[int, int]
) -> None:
    stored = Image.new("RGB", (6, 4), "black")
    stored.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "p.png", exif=exif)
    picture = open_picture(tmp_path / "p.png")
    assert (
        picture.size == picture_size(tmp_path / "p.png") == ((4, 6) if orientation > 4 else (6, 4))
    )
    assert picture.getpixel(corner) == (255, 255, 255)


def test_unusable_files_are_one_line_that_names_them(tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(SampleError, match=words) as caught:
            open_picture(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "missing.png", "no such picture")
    refused(tmp_path, "a directory")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "empty file")
    (tmp_path / "text.png").write_text("no picture")
    refused(tmp_path / "text.png", "not a picture")


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_turned_tiff_is_read_row_by_row(
    tmp_path: Path, mode: str, compression: str | None
) -> None:
    """An uncompressed one could be mapped into memory, as if it were stored as it is displayed."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    wide = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    wide = wide if mode == "I;16" else Image.fromarray(noise).convert(mode)
    wide.save(tmp_path / "flat.tif", compression=compression)
    wide.save(tmp_path / "turned.tif", compression=compression, tiffinfo={0x112: 6})
    flat, turned = (open_picture(tmp_path / f"{name}.tif") for name in ("flat", "turned"))
    assert picture_size(tmp_path / "turned.tif") == turned.size == (20, 40)
    assert turned.tobytes() == flat.transpose(Image.Transpose.ROTATE_270).tobytes()


@pytest.mark.parametrize("format_", ["png", "jpg", "bmp", "gif", "tif", "webp"])
def test_a_truncated_picture_has_a_size_but_cannot_be_opened(tmp_path: Path, format_: str) -> None:
    path = tmp_path / f"p.{format_}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    if format_ != "webp":  # its reader wants the whole file before it tells the size
        assert picture_size(path) == (60, 40)
    with pytest.raises(SampleError, match=rf"p\.{format_}.*(truncated|not a picture)"):
        open_picture(path)


def test_a_png_whose_end_was_overwritten_is_damaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png")
    content = (tmp_path / "p.png").read_bytes()
    half = len(content) // 2
    (tmp_path / "p.png").write_bytes(content[:half] + bytes(len(content) - half))
    with pytest.raises(SampleError, match=r"p\.png.*damaged"):
        open_picture(tmp_path / "p.png")


def test_a_picture_without_pixels_is_refused(tmp_path: Path) -> None:
    header = b"P6 0 5 255\n"
    (tmp_path / "p.ppm").write_bytes(header)
    with pytest.raises(SampleError, match=r"p\.ppm"):
        open_picture(tmp_path / "p.ppm")
