import numpy as np
import pytest

from jobs.views.contact_sheet import ContactSheet
from jobs.views.overlay import TRUTH_COLOUR, draw_masks, line_width, object_colour


def disc(height: int, width: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height // 2) ** 2 + (x - width // 2) ** 2 <= radius**2


def test_colours_are_stable_and_apart():
    colours = [object_colour(number) for number in (*range(1, 25), 300, 2**31 - 1)]
    assert colours == [object_colour(number) for number in (*range(1, 25), 300, 2**31 - 1)]
    assert len(set(colours)) == len(colours)
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_tint_inside_outline_on_the_edge_and_nothing_outside():
    frame = np.full((200, 300, 3), 100, np.uint8)
    mask = disc(200, 300, 60)
    drawn = draw_masks(frame, {3: mask}, opacity=0.5, labels=False)
    colour = np.array(object_colour(3))
    assert (drawn[~mask] == 100).all() and (frame == 100).all()
    assert np.abs(drawn[100, 150].astype(int) - (100 + colour) / 2).max() <= 1
    edge_x = 150 + 60
    assert (drawn[100, edge_x] == colour).all() and (drawn[100, edge_x - line_width(200, 300) + 1] == colour).all()
    assert not (drawn[100, edge_x - 6] == colour).all()


def test_the_outline_runs_along_the_border_of_the_frame():
    mask = np.zeros((200, 300), np.uint8)
    mask[:50, :50] = 1
    drawn = draw_masks(np.zeros((200, 300, 3), np.uint8), {1: mask}, labels=False)
    assert (drawn[0, :50] == object_colour(1)).all() and (drawn[:50, 0] == object_colour(1)).all()


def test_truth_is_a_white_line_around_the_object_only():
    mask = disc(200, 300, 50)
    drawn = draw_masks(np.zeros((200, 300, 3), np.uint8), {}, truth={1: mask})
    white = (drawn == TRUTH_COLOUR).all(2)
    assert not (white & mask).any() and (drawn[~white] == 0).all()
    assert white[100, 150 + 51] and white[100 - 51, 150]
    y, x = np.nonzero(white)
    assert np.hypot(y - 100, x - 150).max() < 53


@pytest.mark.parametrize("place", [(0, 0), (198, 298), (90, 150)])
def test_labels_stay_in_the_frame_and_beside_small_objects(place):
    mask = np.zeros((200, 300), bool)
    mask[place[0] : place[0] + 2, place[1] : place[1] + 2] = True
    drawn = draw_masks(np.zeros((200, 300, 3), np.uint8), {7: mask})
    filled = (drawn == object_colour(7)).all(2)
    assert filled.sum() > 50, "a label was drawn"
    assert (drawn[mask] == object_colour(7)).all(), "and the object is still to be seen"


def test_empty_masks_and_wrong_sizes():
    frame = np.full((50, 60, 3), 9, np.uint8)
    assert (draw_masks(frame, {1: np.zeros((50, 60), bool)}) == frame).all()
    with pytest.raises(ValueError, match="60x51"):
        draw_masks(frame, {1: np.zeros((51, 60), bool)})


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (17, 9)])
def test_tiny_frames(size):
    drawn = draw_masks(np.zeros((*size, 3), np.uint8), {1: np.ones(size, np.uint8)})
    assert drawn.shape == (*size, 3) and drawn.any()


def test_the_sheet_holds_its_frames_in_reading_order():
    sheet = ContactSheet(3, "a title that is much too long for a sheet of this width, and so it is cut somewhere")
    for number in range(5):
        sheet.add(np.full((40, 60, 3), 50 * number, np.uint8), f"frame {number}")
    image = np.asarray(sheet.image())
    seen = [int(value) for value in (0, 50, 100, 150, 200) if (image == value).all(2).sum() >= 40 * 60]
    assert seen == [0, 50, 100, 150, 200] and len(sheet) == 5
    places = [np.argwhere((image == value).all(2)).mean(0) for value in (50, 100, 150, 200)]
    assert places[0][1] < places[1][1] and places[0][0] < places[2][0] and places[2][1] < places[3][1]


def test_sheets_refuse_mixed_sizes_and_nothing():
    sheet = ContactSheet(2)
    with pytest.raises(ValueError, match="at least one"):
        sheet.image()
    sheet.add(np.zeros((4, 4, 3), np.uint8), "")
    with pytest.raises(ValueError, match="one size"):
        sheet.add(np.zeros((4, 5, 3), np.uint8), "")
