import pytest
import torch

from stcn_core.aggregate import soft_aggregate
from stcn_core.training.loss import aggregate_log_probabilities, bootstrap_share, mask_loss, match_loss
from stcn_core.training.readout import read_fully
from stcn_core.training.validation import _read_top


def test_log_aggregation_equals_soft_aggregation():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 7) * 3
    present = torch.ones(2, 3, dtype=torch.bool)
    expected = soft_aggregate(torch.sigmoid(logits))
    assert torch.allclose(aggregate_log_probabilities(logits, present).exp(), expected, atol=1e-5)


def test_absent_objects_get_no_probability_and_do_not_disturb_the_others():
    logits = torch.randn(1, 2, 4, 4)
    logits[:, 1] = 9.0
    both = aggregate_log_probabilities(logits, torch.tensor([[True, False]])).exp()
    alone = aggregate_log_probabilities(logits[:, :1], torch.tensor([[True]])).exp()
    assert both[:, 2].max() < 1e-4
    assert torch.allclose(both[:, :2], alone, atol=1e-4)


def test_a_wrong_saturated_logit_still_gets_a_gradient():
    logits = torch.full((1, 1, 2, 2), 12.0, requires_grad=True)
    present = torch.ones(1, 1, dtype=torch.bool)
    mask_loss(aggregate_log_probabilities(logits, present), torch.zeros(1, 1, 2, 2), present, 1.0).backward()
    assert (logits.grad > 0.1).all()


def test_loss_prefers_the_truth():
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., 2:6, 2:6] = 1
    present = torch.ones(1, 1, dtype=torch.bool)
    good = mask_loss(aggregate_log_probabilities((truth * 2 - 1) * 8, present), truth, present, 0.5)
    bad = mask_loss(aggregate_log_probabilities((1 - truth * 2) * 8, present), truth, present, 0.5)
    assert good < 0.05 and bad > 5


def test_bootstrapping_counts_the_hardest_pixels():
    logits = torch.full((1, 1, 1, 4), -8.0)
    truth = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
    present = torch.ones(1, 1, dtype=torch.bool)
    log_probabilities = aggregate_log_probabilities(logits, present)
    whole = mask_loss(log_probabilities, truth, present, 1.0)
    hardest = mask_loss(log_probabilities, truth, present, 0.25)
    assert float(hardest - whole) == pytest.approx(16.0 * 0.75, rel=0.01)  # odds e^-8 against e^8: a logit counts twice


def test_bootstrap_share_by_hand():
    assert bootstrap_share(0, 100, 200, 0.2) == 1.0
    assert bootstrap_share(150, 100, 200, 0.2) == pytest.approx(0.6)
    assert bootstrap_share(9999, 100, 200, 0.2) == 0.2


def test_full_readout_finds_the_matching_memory_element():
    keys = torch.eye(4).view(1, 4, 1, 2, 2) * 40  # four memory elements, orthogonal
    values = torch.arange(4.0).view(1, 1, 1, 1, 2, 2)
    query = keys[:, :, 0].flip(3)
    assert torch.allclose(read_fully(keys, values, query)[0][0, 0, 0], values[0, 0, 0, 0].flip(1), atol=1e-4)


def test_training_and_validation_readout_agree_when_nothing_is_left_out():
    torch.manual_seed(1)
    keys, values, query = torch.randn(1, 8, 2, 3, 4), torch.randn(1, 2, 5, 2, 3, 4), torch.randn(1, 8, 3, 4)
    full = read_fully(keys, values, query)[0][0]
    top = _read_top(keys[0].flatten(1), values[0].flatten(2), query[0], 24)
    assert torch.allclose(full, top, atol=1e-5)


def test_match_loss_is_small_for_the_right_correspondence_and_teaches_a_wrong_one():
    memory = torch.zeros(1, 1, 1, 32, 32)
    memory[..., :16, :16] = 1  # the first of four cells
    query = memory[:, 0].flip(3)  # the second
    right = torch.eye(4)[[1, 0, 3, 2]][None]
    wrong = torch.eye(4)[None].requires_grad_()
    assert match_loss(right, memory, query) < 0.01
    loss = match_loss(wrong, memory, query)
    loss.backward()
    assert loss > 1 and wrong.grad[0, 0, 1] < 0  # more weight of the object's cell at the object's new place
