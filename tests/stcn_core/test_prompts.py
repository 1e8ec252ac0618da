"""Prompts: pictures of every kind, boxes at every edge, and errors that say what to change."""

import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from schemas.prompt import Prompt
from stcn_core.found import Found
from stcn_core.prompts import PromptError, PromptSet, read_label_png, resolve_prompts, shrink_mask

SIZE = (12, 17)
LABELS = np.zeros(SIZE, np.uint8)
LABELS[2:6, 3:9] = 1
LABELS[7:11, 1:16] = 2
LABELS[0, 16] = 40


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(pixels: np.ndarray) -> bytes:
    return saved(Image.fromarray(pixels))


def palette(pixels: np.ndarray) -> bytes:
    image = Image.fromarray(pixels).convert("P")
    image.putdata(pixels.flatten())
    image.putpalette([value % 256 for value in range(768)])
    return saved(image)


def resolve(*prompts: Prompt, size: tuple[int, int] = SIZE, **files: bytes) -> PromptSet:
    return resolve_prompts(prompts, size, lambda seconds: int(seconds * 10), lambda url: files[url])


def rle(mask: np.ndarray) -> tuple[int, int, bytes]:
    code = coco.encode(np.asfortranarray(mask))
    return *code["size"], code["counts"]


# Pictures


@pytest.mark.parametrize("write", [grey, palette])
def test_object_numbers(write: object) -> None:
    assert np.array_equal(read_label_png(write(LABELS), "m.png"), LABELS)
    assert not read_label_png(write(0 * LABELS), "m.png").any()


def test_void_is_no_object() -> None:
    pixels = LABELS.copy()
    pixels[11] = 255
    for write in (grey, palette):
        assert np.array_equal(read_label_png(write(pixels), "m.png"), LABELS)


def test_pictures_that_a_tool_more_likely_wrote_by_mistake_are_no_prompts() -> None:
    square = (LABELS == 1).astype(np.uint8)
    white = np.full((*SIZE, 3), 255, np.uint8)
    inverted = Image.fromarray(square).convert("P")
    inverted.putdata(square.flatten())
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    void = saved(Image.fromarray(square * 255).convert("P"))
    shape = saved(Image.fromarray(np.dstack([white, square * 255])))
    for picture, said in ((void, "void"), (saved(inverted), "white"), (shape, "alpha")):
        with pytest.raises(PromptError, match=said):
            resolve(Prompt(frame=0, object_id=1, mask="m"), m=picture)
    # A data set's own annotation may be so, and a picture without transparency may have an alpha channel.
    assert not read_label_png(void, "m.png").any() and read_label_png(saved(inverted), "m.png").any()
    opaque = saved(Image.fromarray(np.dstack([*[square * 255] * 3, white[..., 0]])))
    assert np.array_equal(read_label_png(opaque, "m.png", strict=True), square)


def test_palettes_reach_to_254() -> None:
    pixels = (np.arange(12 * 17) % 254 + 1).reshape(SIZE).astype(np.uint8)
    assert np.array_equal(read_label_png(palette(pixels), "m.png"), pixels)


def binary_pictures() -> dict[str, bytes]:
    mask = (LABELS == 2).astype(np.uint8)
    image = Image.fromarray(mask * 255)
    alpha = Image.merge("LA", (image, Image.fromarray(255 - mask)))
    opaque = Image.merge("RGBA", (image, image, image, Image.fromarray(mask * 0 + 255)))
    return {
        "grey": saved(image),
        "grey+alpha": saved(alpha),
        "one bit": saved(image.convert("1")),
        "rgb": saved(image.convert("RGB")),
        "rgba": saved(opaque),
        "16 bit": saved(Image.fromarray(mask.astype(np.uint16))),
        "interlaced or not": saved(image, optimize=True),
    }


@pytest.mark.parametrize("name", binary_pictures())
def test_black_and_white(name: str) -> None:
    assert np.array_equal(read_label_png(binary_pictures()[name], "m.png"), LABELS == 2)


def unusable_pictures() -> dict[str, tuple[bytes, str]]:
    """Content, and what the message must say."""
    good = grey(LABELS)
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[3:5, 4:9] = (255, 0, 0)
    smooth = np.linspace(0, 255, 12 * 17).reshape(SIZE).astype(np.uint8)
    blocks = np.kron(LABELS[:8, :8] > 0, np.ones((8, 8))).astype(np.uint8) * 255
    return {
        "colour": (saved(Image.fromarray(colours)), "colour picture (RGB)"),
        "anti-aliased": (grey(smooth), "grey value 65"),
        "16 bit": (saved(Image.fromarray(np.full(SIZE, 65535, np.uint16))), "grey value 65535"),
        "jpeg": (saved(Image.fromarray(smooth), "JPEG"), "JPEG picture"),
        "jpeg of black and white": (saved(Image.fromarray(blocks), "JPEG"), "JPEG picture"),
        "gif": (saved(Image.fromarray(LABELS), "GIF"), "GIF picture"),
        "cut": (good[: len(good) // 2], "not a readable picture"),
        "empty": (b"", "not a readable picture"),
        "text": (b"<html>404</html>", "not a readable picture"),
        "wrong checksum": (good.replace(b"IDAT", b"IDAT\0", 1), "not a readable picture"),
    }


@pytest.mark.parametrize("name", unusable_pictures())
def test_unusable_pictures_are_named(name: str) -> None:
    data, reason = unusable_pictures()[name]
    with pytest.raises(PromptError) as caught:
        read_label_png(data, "folder/m.png")
    message = str(caught.value)
    assert "folder/m.png" in message and reason in message
    assert "save" in message or "write 0 and 255" in message


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_prompt_errors_and_nothing_else() -> None:
    draw = np.random.default_rng(0)
    good, refused = palette(LABELS), 0
    for _ in range(800):
        data = bytearray(good)
        for _ in range(draw.integers(1, 4)):
            data[draw.integers(len(data))] = draw.integers(256)
        try:
            read_label_png(bytes(data[: draw.integers(1, len(data) + 1)]), "m.png")
        except PromptError:
            refused += 1
    assert refused > 700


# Which objects


def test_one_picture_with_several_objects() -> None:
    result = resolve(Prompt(frame=4, mask="m"), m=palette(LABELS))
    assert result.object_ids == (1, 2, 40)
    assert list(result.frames) == [4]
    for i in (1, 2, 40):
        assert np.array_equal(result.frames[4].given[i], LABELS == i)
        assert result.frames[4].given[i].dtype == np.uint8
    assert not result.frames[4].seeds


def test_one_object_out_of_a_picture() -> None:
    assert np.array_equal(
        resolve(Prompt(frame=0, object_id=2, mask="m"), m=palette(LABELS)).frames[0].given[2], LABELS == 2
    )
    white = grey((LABELS == 1).astype(np.uint8) * 255)
    renamed = resolve(Prompt(frame=0, object_id=77, mask="m"), m=white)
    assert renamed.object_ids == (77,)
    assert np.array_equal(renamed.frames[0].given[77], LABELS == 1)


def test_rle_and_box_and_time() -> None:
    mask = (LABELS == 2).astype(np.uint8)
    result = resolve(
        Prompt(time_s=1.25, object_id=300, rle=rle(mask)),
        Prompt(frame=3, object_id=7, box=(3, 2, 6, 4)),
        Prompt(frame=12, object_id=7, mask="m"),
        m=grey(mask * 255),
    )
    assert result.object_ids == (7, 300)
    assert list(result.frames) == [3, 12]
    assert np.array_equal(result.frames[12].given[300], mask)
    assert np.array_equal(result.frames[12].given[7], mask)
    assert np.array_equal(result.frames[3].seeds[7], LABELS == 1)
    assert not result.frames[3].given and not result.frames[12].seeds


def test_a_single_box_or_rle_is_object_1() -> None:
    assert resolve(Prompt(frame=0, box=(0, 0, 3, 3))).object_ids == (1,)
    assert resolve(Prompt(frame=0, rle=rle(np.ones(SIZE, np.uint8)))).object_ids == (1,)


def test_complete_and_empty_masks_say_absent() -> None:
    nothing = rle(np.zeros(SIZE, np.uint8))
    result = resolve(
        Prompt(frame=0, object_id=1, box=(0, 0, 3, 3), complete=True),
        Prompt(frame=5, object_id=2, box=(4, 4, 3, 3)),
        Prompt(frame=9, object_id=1, rle=nothing),
        Prompt(frame=9, object_id=3, rle=rle(np.ones(SIZE, np.uint8))),
    )
    assert result.object_ids == (1, 2, 3)
    assert set(result.frames[0].given) == {2, 3} and set(result.frames[0].seeds) == {1}
    assert not any(mask.any() for mask in result.frames[0].given.values())
    assert set(result.frames[5].seeds) == {2} and not result.frames[5].given  # the others are unknown there
    assert set(result.frames[9].given) == {1, 3} and not result.frames[9].given[1].any()


MASK = {"m": palette(LABELS), "empty": palette(0 * LABELS), "wide": palette(np.ones((12, 19), np.uint8))}


@pytest.mark.parametrize(
    ("prompts", "parts"),
    [
        ([Prompt(frame=0, mask="wide")], ["mask wide is 19x12", "video 17x12", "resize"]),
        ([Prompt(frame=0, object_id=1, rle=rle(np.ones((17, 12), np.uint8)))], ["prompt 1", "12x17", "resize"]),
        ([Prompt(frame=0, object_id=1, rle=(*SIZE, b"zzzz"))], ["prompt 1", "damaged", "compressed counts"]),
        ([Prompt(frame=0, object_id=1, rle=(*SIZE, b""))], ["prompt 1", "damaged"]),
        ([Prompt(frame=0, object_id=5, mask="m")], ["mask m", "[1, 2, 40]", "not 5", "give one"]),
        ([Prompt(frame=0, mask="empty")], ["mask empty is empty", "object_id"]),
        ([Prompt(frame=0, object_id=4, mask="empty")], ["object 4 has only empty masks"]),
        (
            [Prompt(frame=0, box=(1, 1, 2, 2)), Prompt(frame=1, object_id=2, box=(1, 1, 2, 2))],
            ["prompt 1", "object_id"],
        ),
        (
            [Prompt(frame=3, mask="m"), Prompt(time_s=0.35, object_id=2, box=(1, 1, 2, 2))],
            ["prompt 2", "object 2 has two prompts on frame 3", "keep one"],
        ),
        ([Prompt(frame=0, object_id=1, box=(17, 0, 5, 5))], ["prompt 1", "outside the 17x12 frame", "pixels"]),
        ([Prompt(frame=0, object_id=1, box=(0, 12, 5, 5))], ["prompt 1", "outside the 17x12 frame"]),
        ([], ["no prompt"]),
    ],
)
def test_errors_say_which_prompt_and_what_to_change(prompts: list[Prompt], parts: list[str]) -> None:
    with pytest.raises(PromptError) as caught:
        resolve(*prompts, **MASK)
    for part in parts:
        assert part in str(caught.value)


# Boxes


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((3, 2, 6, 4), (2, 6), (3, 9)),
        ((0, 0, 17, 12), (0, 12), (0, 17)),
        ((-5, -5, 8, 9), (0, 4), (0, 3)),
        ((15, 10, 50, 50), (10, 12), (15, 17)),
        ((2.4, 2.6, 3.0, 3.0), (3, 6), (2, 5)),  # centres from 2.4 to 5.4 and from 2.6 to 5.6
        ((0.5, 1.5, 1, 1), (2, 3), (1, 2)),  # halves always go up: the size stays
        ((1.5, 2.5, 1, 1), (3, 4), (2, 3)),
        ((10.6, 3.1, 0.3, 0.2), (3, 4), (10, 11)),  # thinner than a pixel: the pixel it lies on
        ((16.9, 11.9, 0.05, 0.05), (11, 12), (16, 17)),
        ((16.7, 0, 5, 1), (0, 1), (16, 17)),  # a sliver at the edge
        ((-3, -3, 3.2, 3.2), (0, 1), (0, 1)),
    ],
)
def test_boxes_fill_the_pixels_whose_centres_they_cover(
    box: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    mask = resolve(Prompt(frame=0, object_id=1, box=box)).frames[0].seeds[1]
    expected = np.zeros(SIZE, np.uint8)
    expected[slice(*rows), slice(*columns)] = 1
    assert np.array_equal(mask, expected)


# Working size


def test_shrinking_keeps_pixels_that_are_half_covered() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[0:4, 0:3] = 1  # covers one block of 4x4 by three quarters
    mask[4:8, 4:5] = 1  # and another by a quarter
    assert shrink_mask(mask, (2, 2)).tolist() == [[1, 0], [0, 0]]
    assert shrink_mask(mask, (2, 2)).dtype == np.uint8
    assert shrink_mask(mask, (8, 8)) is mask


def test_a_thin_object_is_not_lost() -> None:
    mask = np.zeros((1080, 1920), np.uint8)
    mask[500, 3] = 1
    small = shrink_mask(mask, (48, 86))
    assert small.sum() == 1 and small[500 * 48 // 1080, 0] == 1
    assert not shrink_mask(0 * mask, (48, 86)).any()


@pytest.mark.parametrize("shape", [(12, 16), (13, 18), (11, 17)])
def test_one_pixel_more_or_less_is_rounding(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, np.uint8)
    labels[:, -1] = 2
    (here,) = resolve(Prompt(frame=0, mask="m"), m=grey(labels)).frames.values()
    union = np.maximum.reduce(list(here.given.values()))
    assert union.shape == SIZE and union.all()


def test_a_given_mask_corrects_what_the_detector_found_on_that_frame() -> None:
    square = np.zeros(SIZE, np.uint8)
    square[:4, :4] = 1
    found = [Found(1, 3, n, np.roll(square, 5 * n, 1), "lost", "object", 1.0) for n in (1, 2)]
    correction = Prompt(frame=3, object_id=2, mask="m")
    here = resolve_prompts([Prompt(detector="lost"), correction], SIZE, int, lambda _: grey(square), found).frames[3]
    assert set(here.seeds) == {1} and np.array_equal(here.given[2], square)
    with pytest.raises(PromptError, match="two prompts on frame 3"):  # a person's box and mask contradict each other
        resolve(Prompt(frame=3, object_id=2, box=(0, 0, 4, 4)), correction, m=grey(square))
    twice = [Prompt(detector="lost"), correction, Prompt(time_s=0.1, object_id=2, mask="m")]
    with pytest.raises(PromptError, match="prompt 3: object 2 has two prompts on frame 3"):
        resolve_prompts(twice, SIZE, lambda _: 3, lambda _: grey(square), found)
