import numpy as np
import pytest
import torch

from stcn_core.training.body_plans import BODY_PLANS, WEIGHTS
from stcn_core.training.fields import GRAPHIC_RECIPES, RECIPES, SIDE, field, sample_field
from stcn_core.training.shapes import SHAPES, coverage
from stcn_core.training.textures import Material, similar_colour

ONE_OF_EACH_KIND = sorted({kind: i for i, (kind, _) in enumerate(RECIPES + GRAPHIC_RECIPES)}.values())


@pytest.mark.parametrize("index", ONE_OF_EACH_KIND)
def test_fields_are_normalised_and_bounded(index):
    values = field(index)
    assert values.shape == (SIDE, SIDE) and values.dtype == torch.float32
    assert float(values.abs().max()) <= 3.0
    assert 0.5 < float(values.std()) <= 1.05


def test_power_fields_have_a_falling_spectrum():
    index = RECIPES.index(("power", 1.6))
    power = np.abs(np.fft.fft2(field(index).numpy())) ** 2
    low, high = power[1:8, 1:8].mean(), power[60:100, 60:100].mean()
    assert low > 100 * high


def test_sampled_fields_have_the_size_asked_for():
    rng = np.random.default_rng(0)
    for height, width, scale in ((5, 9, 1.0), (400, 30, 0.7), (64, 64, 3.0)):
        assert sample_field(rng, 0, height, width, scale).shape == (height, width)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_shape_covers_some_of_its_square_and_leaves_some(kind):
    cover = coverage(np.random.default_rng(1), kind, 64)
    assert cover.shape == (64, 64)
    assert float(cover.min()) >= 0 and float(cover.max()) <= 1
    assert 0.01 < float(cover.mean()) < 0.95


def test_an_ellipse_covers_pi_quarters_of_its_box():
    cover = coverage(np.random.default_rng(0), "ellipse", 160)
    assert float(cover.mean()) == pytest.approx(np.pi / 4 / 1.12**2, rel=0.01)


def test_unknown_shapes_are_refused():
    with pytest.raises(KeyError):
        coverage(np.random.default_rng(0), "teapot", 16)


def test_a_look_alike_is_near_and_a_stranger_is_far():
    near, far = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        material = Material.random(rng)
        mean = material.patch(rng, 48, 48).mean((1, 2))
        near.append(float((material.varied(rng, 0.05).patch(rng, 48, 48).mean((1, 2)) - mean).abs().max()))
        far.append(float((Material.random(rng).patch(rng, 48, 48).mean((1, 2)) - mean).abs().max()))
    assert np.median(near) < 0.5 * np.median(far)


def test_similar_colours_stay_within_the_gamut():
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert all(0 <= c <= 1 for c in similar_colour(rng, (0.9, 0.1, 0.5), 1.0))


@pytest.mark.parametrize("name", BODY_PLANS)
def test_body_plans_hang_parts_on_earlier_parts(name):
    for seed in range(5):
        plan = BODY_PLANS[name](np.random.default_rng(seed))
        assert plan and plan[0].parent == -1
        for index, part in enumerate(plan):
            assert part.parent < index and part.shape in SHAPES and min(part.half) > 0


def test_plan_weights_are_a_distribution():
    assert set(WEIGHTS) == set(BODY_PLANS) and sum(WEIGHTS.values()) == pytest.approx(1.0)
