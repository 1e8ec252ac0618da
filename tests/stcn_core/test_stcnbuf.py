"""Parity with the stcnbuf package (a test extra): the same random weights in the official layout, fp32, CPU.

stcnbuf downloads ImageNet weights when it builds its network and moves frames to CUDA; both are patched away here.
Largest relative differences seen are printed (pytest -s). Relative means to the largest absolute value of the tensor.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels
from torch import Tensor

from jobs.presets import PRESETS
from stcn_core import memory
from stcn_core.aggregate import soft_aggregate
from stcn_core.burn_in import StcnbufChoice, stcnbuf_order
from stcn_core.frames import normalise
from stcn_core.memory import PROMPT_COPY, MemoryBank
from stcn_core.network import STCN, NetworkConfig
from stcn_core.offline import OfflineSegmenter
from stcn_core.online import OnlineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

eval_network = pytest.importorskip("stcnbuf.model.eval_network", reason="stcnbuf is in the test extra")
TOLERANCE = 1e-4
# A label may differ only where the two best probabilities are this close.
NEAR_TIE = 2 * TOLERANCE


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[STCN, torch.nn.Module]]:
    """Ours and stcnbuf's with equal weights."""
    from stcnbuf.model import mod_resnet, modules

    ours = random_network(NetworkConfig.official(), seed=0)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        resnet50 = modules.models.resnet50
        patch.setattr(modules.models, "resnet50", lambda weights: resnet50(weights=None))
        patch.setattr(mod_resnet.model_zoo, "load_url", lambda url: {})
        theirs = eval_network.STCN().eval()
        patch.setattr(torch.Tensor, "cuda", lambda self, *args, **kwargs: self)
        theirs.load_state_dict(ours.state_dict(), strict=True)
        yield ours, theirs


def difference(ours: Tensor, theirs: Tensor, what: str, tolerance: float = TOLERANCE) -> float:
    """The largest absolute difference relative to the largest absolute value; asserts that it is in the tolerance."""
    assert ours.shape == theirs.shape, what
    relative = ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()).item()
    print(f"{what}: {relative:.1e}")
    assert relative <= tolerance, what
    return relative


def assert_labels_equal(ours: Tensor, theirs: Tensor) -> None:
    """Probabilities [..., 1 + K, H, W]: argmax equal except at near-ties, and not all one label."""
    best = theirs.topk(2, -3).values
    decided = (best.select(-3, 0) - best.select(-3, 1)) > NEAR_TIE
    assert decided.float().mean() > 0.5
    assert theirs.argmax(-3).unique().numel() > 1
    assert torch.equal(ours.argmax(-3)[decided], theirs.argmax(-3)[decided])


def given_masks(labels: np.ndarray, objects: int) -> Tensor:
    """Label map [H, W] -> float [K, H, W]."""
    return torch.stack([torch.from_numpy(labels == k + 1).float() for k in range(objects)])


@pytest.mark.parametrize("objects", [1, 3])
def test_every_step_of_the_network_is_equal(networks: tuple[STCN, torch.nn.Module], objects: int) -> None:
    ours, theirs = networks
    video = moving_squares(4, 96, 144, objects)
    labels = square_labels(4, 96, 144, objects)
    pixels = normalise(video)
    reference = torch.stack(
        [
            (torch.from_numpy(f).permute(2, 0, 1) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
            / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
            for f in video
        ]
    )
    difference(pixels, reference, "normalised frames")

    features = ours.encode_key(pixels)
    key, thin, f16, f8, f4 = theirs.encode_key(pixels)
    for name, tensor in (("key", key), ("thin", thin), ("f16", f16), ("f8", f8), ("f4", f4)):
        difference(getattr(features, name), tensor, f"{objects} objects, {name}")

    bank = eval_network.MemoryBank(objects, top_k=20)
    settings = OfflineSettings(memory_policy="unbounded", exclude_own=False)
    mine = MemoryBank(settings, (6, 9), objects, 64, 512, pinned=0)
    for number in range(3):
        soft = eval_network.aggregate(given_masks(labels[number], objects)[:, None])[1:]  # [K, 1, H, W]
        value = theirs.encode_value(pixels[number : number + 1], f16[number : number + 1], soft)  # [K, 1, Cv, h, w]
        my_soft = soft_aggregate(given_masks(labels[number], objects))[1:]
        my_value = ours.encode_value(pixels[number : number + 1], f16[number : number + 1], my_soft[None])
        difference(my_soft, soft[:, 0], f"{objects} objects, aggregated given masks")
        difference(my_value[0], value[:, 0], f"{objects} objects, values")
        bank.add_memory(key[number], value[:, 0])
        mine.memorise(mine.admit(number), number, key[number], value[:, 0], [True] * objects)

    readout = bank.match_memory(key)  # [K, B, Cv, h, w]
    my_readout = torch.stack([mine.read(key[b], 10 + b, range(objects)) for b in range(4)])  # [B, K, Cv, h, w]
    difference(my_readout, readout.transpose(0, 1), f"{objects} objects, readout")

    logits = []
    with_logits = theirs.decoder.register_forward_hook(lambda module, inputs, output: logits.append(output))
    # stcnbuf takes a view here, which fails on a batch of several objects unless the readout is contiguous.
    probabilities = theirs.segment_with_query(readout.contiguous(), f8, f4, key, thin)  # [K, B, H, W]
    with_logits.remove()
    my_logits = ours.decode(readout.transpose(0, 1), features)  # [B, K, H, W]
    their_logits = logits[0].view(objects, 4, 96, 144).transpose(0, 1)
    difference(my_logits, their_logits, f"{objects} objects, logits")

    aggregated = eval_network.aggregate(probabilities).transpose(0, 1)  # [B, 1 + K, H, W]
    mine_all = soft_aggregate(torch.sigmoid(ours.decode(my_readout, features)))
    difference(mine_all, aggregated, f"{objects} objects, aggregated masks")
    assert_labels_equal(mine_all, aggregated)


def shared_draws(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Both sides draw the same positions: each from its own generator of equal seed."""
    mine, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    patch.setattr(memory, "random_tokens", lambda frames, tokens, draw: mine.permutation(frames * tokens)[:tokens])
    patch.setattr(torch, "randperm", lambda n: torch.from_numpy(theirs.permutation(n)))


def bank_contents(bank: MemoryBank) -> tuple[Tensor, Tensor]:
    """Keys [1, Ck, N] and values [K, Cv, N] of the bank part, in stcnbuf's layout."""
    keys = bank.keys[bank._bank, : bank.tokens, :-1].flatten(0, 1).t()[None]
    values = bank.values[:, bank._bank, : bank.tokens].flatten(1, 2).transpose(1, 2)
    return keys, values


def test_random_token_replacement_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_draws(monkeypatch, 1)
    frames, objects, grid = 5, 2, (3, 7)
    theirs = eval_network.MemoryBank(objects, memory_size=frames)
    settings = OfflineSettings(memory_policy="random-token", memory_frames=frames, recent_frames=0)
    mine = MemoryBank(settings, grid, objects, 8, 12, pinned=0)
    draw = torch.Generator().manual_seed(0)
    for number in range(3 * frames):
        key, value = torch.randn(8, *grid, generator=draw), torch.randn(objects, 12, *grid, generator=draw)
        theirs.add_memory(key, value)
        mine.memorise(mine.admit(number), number, key, value, [True] * objects)
        keys, values = bank_contents(mine)
        held = theirs.mem_k.shape[2]  # theirs grows, ours is preallocated
        assert torch.equal(keys[:, :, :held], theirs.mem_k)
        assert torch.equal(values[:, :, :held], theirs.mem_v)
    assert held == frames * 21


@pytest.mark.parametrize(("objects", "group"), [(3, 1), (1, 3)])
def test_a_whole_video_is_equal(
    networks: tuple[STCN, torch.nn.Module], monkeypatch: pytest.MonkeyPatch, objects: int, group: int
) -> None:
    """Prompt, burn-in in a given order, final pass with a ring of two: stcnbuf with --passes 2 --mem-every `group`.

    Of a burn-in batch it memorises the last frame only, so that the others need not be visited. (It cannot run a
    batch of several frames with several objects on a CPU.)

    stcnbuf does not protect the prompted frame, and visits it a second time. Here: the prompt is memorised into the
    bank under a frame number that no frame of the video has, instead of being pinned. Every visit of a frame has its
    own noise here: the same key twice in the memory is a tie, which torch.topk breaks as its rounding happens to fall.
    """
    ours, network = networks
    frames, size, memory_frames = 9 if group == 1 else 15, (60, 90), 4
    shared_draws(monkeypatch, 2)
    labels = square_labels(frames, *size, objects)
    prompt, visited, video = (moving_squares(frames, *size, objects, noise_seed=seed) for seed in range(3))
    order = [0, *np.random.default_rng(3).permutation(np.arange(1, frames)).tolist()]

    theirs = eval_network.STCNInference(network, memory_frames, 2, 20, None).eval()
    theirs.initialize(prompt[0], given_masks(labels[0], objects))

    settings = OfflineSettings(
        memory_policy="random-token",
        memory_frames=memory_frames,
        recent_frames=2,
        group_frames=group,
        segment_frames=100 * group,
        exclude_own=False,
    )
    propagation, ids = Propagation(ours, size), tuple(range(1, objects + 1))
    mine = OfflineSegmenter(
        propagation,
        settings,
        PromptSet(ids, {}),
        source=size,
        size=size,
        video_id="v",
        visited=frames,
    )
    first = propagation.encode([0], [prompt[0]])
    values = propagation.value(first, propagation.given(given_masks(labels[0], objects)))
    mine.memory.memorise(mine.memory.admit(frames), frames, first.features.key[0], values, [True] * objects)

    def batch_of(numbers: list[int], pictures: np.ndarray) -> Tensor:
        return torch.stack([theirs.im_transform(pictures[number]) for number in numbers])

    steps = mine.burn_in(order[group - 1 :: group], lambda frame: visited[frame])
    for start in range(0, frames, group):
        members = order[start : start + group]
        assert next(steps) == members[-1]
        theirs.predict_batch(batch_of(members, visited))
        held = theirs.memory_bank.mem_k.shape[2]
        keys, values = bank_contents(mine.memory)
        difference(keys[:, :, :held], theirs.memory_bank.mem_k, "bank keys")
        difference(values[:, :, :held], theirs.memory_bank.mem_v, "bank values")
    assert next(steps, None) is None

    seen = []
    segment = propagation.segment

    def watched(*args: object) -> Tensor:
        seen.append(segment(*args))
        return seen[-1]

    monkeypatch.setattr(propagation, "segment", watched)
    results = dict(mine.final_pass(enumerate(video)))
    assert list(results) == list(range(frames))
    for start in range(0, frames, group):
        members = list(range(start, start + group))
        probabilities = theirs.predict_batch(batch_of(members, video), True, True).transpose(0, 1)  # [G, 1 + K, h, w]
        padded = propagation.unpad(seen[start // group])
        difference(padded, probabilities, f"final pass, frames {members}")
        assert_labels_equal(padded, probabilities)
        for number, expected in zip(members, padded.argmax(1).numpy(), strict=True):
            decoded = {mask.object_id: mask.decode() for mask in results[number]}
            for k in range(objects):
                assert np.array_equal(decoded.get(k + 1, np.zeros(size)), expected == k + 1)


def stcnbuf_options(passes: int, group: int = 1, **changes: object) -> OfflineSettings:
    """The preset's settings; passes counts burn-ins."""
    preset = {name: value for name, value in PRESETS["stcnbuf"].settings.items() if name != "resolution"}
    preset |= {"burn_in_passes": passes, "group_frames": group, "segment_frames": 100 * group, **changes}
    return OfflineSettings(**preset)


def test_its_defaults_are_a_preset(networks: tuple[STCN, torch.nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass in order (--passes 1): the prompted frame is memorised as given, predicted again and memorised again."""
    ours, network = networks
    frames, size, objects, memory_frames = 7, (60, 90), 2, 3
    shared_draws(monkeypatch, 4)
    labels, video = square_labels(frames, *size, objects), moving_squares(frames, *size, objects)
    theirs = eval_network.STCNInference(network, memory_frames, 2, 20, None).eval()
    # The first frame's key lies in the memory twice, a tie that torch.topk breaks as it happens: other noise instead.
    first = moving_squares(frames, *size, objects, noise_seed=9)[0]
    theirs.initialize(first, given_masks(labels[0], objects))

    settings = stcnbuf_options(0, memory_frames=memory_frames)
    propagation = Propagation(ours, size)
    mine = OnlineSegmenter(propagation, settings, objects)
    encode = propagation.encode
    given = {k: (labels[0] == k + 1).astype(np.uint8) for k in range(objects)}
    memorise = mine._memorise_given
    monkeypatch.setattr(mine, "_memorise_given", lambda _, masks: memorise(encode([0], [first]), masks))
    for number, picture in enumerate(video):
        expected = theirs.predict_batch(theirs.im_transform(picture)[None])[:, 0]  # [1 + K, h, w]
        found = mine.step(number, picture, given if number == 0 else None)
        difference(found, expected, f"frame {number}")
        assert_labels_equal(found, expected)
        keys, values = bank_contents(mine.memory)
        held = theirs.memory_bank.mem_k.shape[2]
        difference(keys[:, :, :held], theirs.memory_bank.mem_k, "bank keys")
        difference(values[:, :, :held], theirs.memory_bank.mem_v, "bank values")
    assert held == memory_frames * propagation.grid[0] * propagation.grid[1] and mine.memory.pinned_frames() == []


def test_its_order_with_several_first_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own function, on a video of which it only asks the length and size; numpy's seed is ours."""
    module = pytest.importorskip("stcnbuf.segment_video")

    class Video:
        imshape = (40, 60)

        def __init__(self, *_args: object, **_named: object) -> None: ...

        def __len__(self) -> int:
            return 11

        def resized(self, _shape: tuple[int, int]) -> list[int]:
            return list(range(11))

    flags = SimpleNamespace(
        video_path="", constant_framerate=True, resolution=40, permute_frames=True, init_frame="4,2"
    )
    monkeypatch.setattr(module, "FLAGS", flags)
    monkeypatch.setattr(module.framepump, "VideoFrames", Video)
    monkeypatch.setattr(module.spu, "progressbar", lambda items, **_named: items)
    for seed, passes, every in ((0, 1, 1), (7, 3, 4), (2**33 + 7, 2, 5)):
        np.random.seed(seed % 2**32)
        frames, _, _ = module.get_frames(passes)
        batches = [frames[start : start + every] for start in range(0, len(frames), every)]
        assert stcnbuf_order(range(11), [4, 2], passes, every, seed % 2**32) == [batch[-1] for batch in batches]
        flags.permute_frames = False
        in_order, _, _ = module.get_frames(passes)
        assert stcnbuf_order(range(11), [4, 2], passes, 1, seed % 2**32, permute=False) == in_order
        flags.permute_frames = True


def test_masks_on_each_of_several_first_frames() -> None:
    """What it leaves to the network on all but the first: here each listed frame brings its given masks, and none of
    them is pinned where the preset says so."""
    ours, size, objects = random_network(), (32, 48), 2
    labels, video = square_labels(8, *size, objects), moving_squares(8, *size, objects)
    given = {n: FramePrompts({k + 1: (labels[n] == k + 1).astype(np.uint8) for k in range(objects)}) for n in (5, 2)}
    prompts = PromptSet((1, 2), dict(sorted(given.items())))
    for pin, pinned, in_bank in ((False, [], {2 + PROMPT_COPY, 5 + PROMPT_COPY}), (True, [2, 5], set())):
        settings = stcnbuf_options(1, pin_prompts=pin, memory_policy="fifo")
        run = OfflineSegmenter(
            Propagation(ours, size), settings, prompts, source=size, size=size, video_id="v", visited=10
        )
        run.memorise_prompts(lambda frame: video[frame])
        assert run.memory.pinned_frames() == pinned and set(run.memory.bank_frames()) == in_bank
        choice = StcnbufChoice(3, 1, 1, [5, 2], True)
        for frame in range(8):
            choice.offer(frame)
        assert list(choice.order())[:2] == [5, 2]
        visited = list(run.burn_in(choice.order(), lambda frame: video[frame]))
        assert (visited[:2] == [5, 2]) is not pin and set(range(8)) - set(visited) == set(pinned)
        results = dict(run.final_pass(enumerate(video)))
        for frame in (2, 5):  # written as given, either way
            assert all(np.array_equal(m.decode(), labels[frame] == m.object_id) for m in results[frame])
