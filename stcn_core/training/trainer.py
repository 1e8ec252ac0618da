"""Trains STCN on rendered clips: seeded, resumable after a kill at any instant, on CPU or CUDA."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stcn_core.efficientnet import TRUNKS
from stcn_core.frames import normalise
from stcn_core.network import STCN, KeyFeatures, NetworkConfig
from stcn_core.training.average import MovingAverage
from stcn_core.training.clips import ClipPool
from stcn_core.training.loss import aggregate_log_probabilities, bootstrap_share, mask_loss, match_loss
from stcn_core.training.readout import read_fully
from stcn_core.training.samples import Batch, Gaps, make_batch

STATE_NAME = "last.pt"
LAYOUTS = {
    "small": NetworkConfig.small,
    "official": NetworkConfig.official,
    "no-cbam": NetworkConfig.no_cbam,
    **{name: partial(NetworkConfig.efficient, name) for name in TRUNKS},
}


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that shapes a run. `batch` samples are used at the smallest size, fewer at larger ones, so that
    each step costs about the same; sizes are sides in pixels, multiples of 16."""

    steps: int
    seed: int = 0
    layout: str = "small"
    batch: int = 6
    sizes: tuple[int, ...] = (128, 160, 192, 256)
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warm_up: int = 200
    decay_from: float = 0.7  # share of the steps after which the rate falls to nearly nothing
    clip_norm: float = 1.0
    average: float = 0.999
    freeze_norms_from: float = 0.85  # share of the steps after which batch statistics are fixed
    bootstrap: tuple[int, int, float] = (1000, 6000, 0.25)  # all pixels until, hardest share from, that share
    match_weight: float = 0.5  # of the loss that teaches the keys directly
    pair_share: float = 0.5  # steps with two objects per sample
    ease: tuple[int, int] = (1500, 5000)  # still and near frames, single objects until; the full mixture from
    precision: str = "bf16"
    pool: int = 128
    first_fill: int = 48
    clip_rate: float = 0.5  # new clips per step
    workers: int = 1
    lanes: int = 1  # threads that each compute a part of the batch, see Trainer
    save_every: int = 250
    log_every: int = 20

    def rate_at(self, step: int) -> float:
        """Learning rate: linear warm-up, constant, then half a cosine down to 2 %."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        start = self.decay_from * self.steps
        if step < start:
            return self.learning_rate
        done = min((step - start) / max(self.steps - start, 1), 1.0)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def ease_at(self, step: int) -> float:
        """1 while training is easy, 0 when it is not any more."""
        start, end = self.ease
        return 1 - min(max((step - start) / max(end - start, 1), 0.0), 1.0)


class Trainer:
    """Owns network, optimiser, average and pool of clips. The randomness of a step depends on (seed, step) only.

    With several lanes each computes its part of the batch on its own CPU thread and they meet once a step: on cores
    that are shared with other work this is far faster than splitting every operation, whose threads wait for each
    other hundreds of times a step. Their gradients are added in a fixed order; only the running statistics of the
    norms, which the lanes update as they come, may then differ in the last digits between two runs.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device) -> None:
        for size in settings.sizes:
            if size % 16:
                raise ValueError(f"training size {size} is not a multiple of 16")
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.step = settings, device, 0
        self.network = STCN(LAYOUTS[settings.layout]()).to(device, memory_format=torch.channels_last)
        self.average = MovingAverage(self.network, settings.average)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, settings.weight_decay),
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.pool = ClipPool(settings.seed, settings.workers, settings.pool, settings.first_fill, settings.clip_rate)
        self.seconds = 0.0  # of training, over all attempts
        self._lanes = ThreadPoolExecutor(settings.lanes, initializer=torch.set_num_threads, initargs=(1,))

    def train(self, folder: Path, report: Callable[[dict], None]) -> None:
        """Runs to the last step, saving to folder/last.pt; each record of `report` is one log line."""
        folder.mkdir(parents=True, exist_ok=True)
        recent: list[tuple[float, float]] = []
        mark, marked_step = time.monotonic(), self.step
        try:
            while self.step < self.settings.steps:
                started = time.monotonic()
                recent.append(self.take_step())
                self.seconds += time.monotonic() - started
                if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
                    pace = (time.monotonic() - mark) / (self.step - marked_step)
                    mark, marked_step = time.monotonic(), self.step
                    report(self._record(recent, pace))
                    recent = []
                if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                    self.save(folder)
        finally:
            self.pool.close()

    def _record(self, recent: list[tuple[float, float]], pace: float) -> dict:
        losses, overlaps = zip(*recent, strict=True)
        return {
            "step": self.step,
            "steps": self.settings.steps,
            "loss": float(np.mean(losses)),
            "iou": float(np.nanmean(overlaps)) if not np.isnan(overlaps).all() else None,
            "rate": self.settings.rate_at(self.step),
            "seconds_per_step": pace,
            "seconds_left": pace * (self.settings.steps - self.step),
        }

    def take_step(self) -> tuple[float, float]:
        """One optimiser step; returns the loss and the mean IoU of the third frame."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, 7, self.step])
        size = int(rng.choice(settings.sizes))
        ease = settings.ease_at(self.step)
        objects = 2 if rng.random() < settings.pair_share * (1 - ease) else 1
        count = max(1, round(settings.batch * (min(settings.sizes) / size) ** 2 * (1.0 if objects == 1 else 0.75)))
        batch = make_batch(rng, self.pool.at_step(self.step), count, size, objects, Gaps().eased(ease))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate_at(self.step)
        self.network.train(self.step < settings.freeze_norms_from * settings.steps)
        share = bootstrap_share(self.step, *settings.bootstrap)
        loss, overlap = self._gradients(batch, share)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self.average.update(self.network, self.step)
        return loss, overlap

    def _gradients(self, batch: Batch, share: float) -> tuple[float, float]:
        """Fills the parameters' gradients with those of the whole batch; returns mean loss and IoU."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        parts = batch.split(self.settings.lanes)

        def work(part: Batch) -> tuple[float, float, tuple[Tensor, ...]]:
            loss, overlap = self._loss(part, share)
            gradients = torch.autograd.grad(loss, parameters)
            return float(loss.detach()), overlap, gradients

        results = list(map(work, parts) if len(parts) == 1 else self._lanes.map(work, parts))
        weights = [len(part.frames) / len(batch.frames) for part in parts]
        for index, parameter in enumerate(parameters):
            terms = [gradients[index] * weight for (_, _, gradients), weight in zip(results, weights, strict=True)]
            parameter.grad = sum(terms[1:], terms[0])
        overlaps = [overlap for _, overlap, _ in results if not math.isnan(overlap)]
        loss = sum(loss * weight for (loss, _, _), weight in zip(results, weights, strict=True))
        return loss, float(np.mean(overlaps)) if overlaps else math.nan

    def _loss(self, batch: Batch, share: float) -> tuple[Tensor, float]:
        with self._autocast():
            first, second, weights = forward_three(self.network, batch, self.device)
        present = batch.present.to(self.device)
        masks = batch.masks.to(self.device)
        loss = mask_loss(first, masks[:, 1], present, share) + mask_loss(second, masks[:, 2], present, share)
        for memory, read in enumerate(weights, start=1):
            loss = loss + self.settings.match_weight * match_loss(read, masks[:, :memory], masks[:, memory])
        with torch.no_grad():
            found = second[:, 1:] >= second.amax(1, keepdim=True)  # [B, K, H, W]
            truth = masks[:, 2] > 0.5
            union = (found | truth).flatten(2).sum(2)
            overlap = (found & truth).flatten(2).sum(2) / union.clamp(min=1)
            seen = present & (truth.flatten(2).sum(2) > 0)
            score = float(overlap[seen].mean()) if seen.any() else math.nan
        return loss, score

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def save(self, folder: Path) -> None:
        """Writes folder/last.pt in one step: whoever is killed leaves the old state or the new one, whole."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": json.dumps(asdict(self.settings)),
        }
        temporary = folder / f".{STATE_NAME}.{os.getpid()}"
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / STATE_NAME)

    def load(self, folder: Path) -> None:
        """Continues from folder/last.pt. Raises FileNotFoundError, or ValueError for another layout."""
        state = read_state(folder)
        saved = json.loads(state["settings"])
        if saved["layout"] != self.settings.layout:
            raise ValueError(f"{folder / STATE_NAME} holds layout {saved['layout']}, not {self.settings.layout}")
        self.network.load_state_dict(state["network"])
        for key, tensor in state["average"].items():
            self.average.state[key].copy_(tensor)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def read_state(folder: Path) -> dict:
    """The saved state of a run: tensors, numbers and the settings as JSON. Raises FileNotFoundError."""
    path = folder / STATE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: no training run was saved in {folder}")
    return torch.load(path, map_location="cpu", weights_only=True)


def averaged_network(folder: Path) -> tuple[STCN, dict]:
    """The averaged weights of a run in evaluation mode, and its record: step, seconds, settings."""
    state = read_state(folder)
    settings = json.loads(state["settings"])
    network = STCN(LAYOUTS[settings["layout"]]())
    network.load_state_dict(state["average"])
    return network.eval(), {"step": state["step"], "seconds": state["seconds"], "settings": settings}


def forward_three(network: STCN, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Segments the second frame from the first, and the third from both, with the network's own soft mask of the
    second in memory. Returns the log probabilities [B, K + 1, S, S] of the second and of the third frame, and the
    weights of both readouts.
    """
    count = len(batch.frames)
    pixels = batch.frames.flatten(0, 1).permute(0, 2, 3, 1)  # [B * 3, S, S, 3]
    frames = normalise(pixels, device).contiguous(memory_format=torch.channels_last)
    prompts, present = batch.prompts.to(device), batch.present.to(device)
    features = network.encode_key(frames)

    def of(index: int) -> tuple[Tensor, KeyFeatures]:
        return frames[index::3], features[slice(index, count * 3, 3)]

    (frame0, features0), (frame1, features1), (_, features2) = of(0), of(1), of(2)
    value0 = network.encode_value(frame0, features0.f16, prompts)
    readout, weights1 = read_fully(features0.key[:, :, None], value0[:, :, :, None], features1.key)
    first = aggregate_log_probabilities(network.decode(readout, features1), present)
    value1 = network.encode_value(frame1, features1.f16, first[:, 1:].exp())
    keys = torch.stack((features0.key, features1.key), 2)  # [B, Ck, 2, h, w]
    values = torch.stack((value0, value1), 3)  # [B, K, Cv, 2, h, w]
    readout, weights2 = read_fully(keys, values, features2.key)
    second = aggregate_log_probabilities(network.decode(readout, features2), present)
    return first, second, (weights1, weights2)


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Weights decay; biases and norms do not."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
