"""A vision transformer with DINO's weights, for the keys of its last attention layer."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from stcn_core.detectors.detections import DetectorError
from stcn_core.detectors.weights import fill, read_weights
from stcn_core.frames import MEAN, STD

HEAD_WIDTH = 64  # of all published DINO transformers; a file of another kind says its `heads`


class Dino:
    """ViT-S or ViT-B, patches of 8 or 16, told by the file's shapes: DINO's `.pth` or timm's `.safetensors`."""

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        """Raises DetectorError."""
        state, layout = read_weights(weights)
        # Training checkpoints keep the transformer as `backbone` beside the head that DINO throws away.
        state = {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
        self._network = _built(state, layout or {}, weights)
        fill(self._network, state, weights)
        self._network.to(device)
        self._device = device
        self.patch = self._network.patch_embed.patch_size[0]

    @torch.inference_mode()
    def keys(self, picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """picture uint8 RGB [H, W, 3] -> (float32 [h * w, C], (h, w)): all heads side by side, without the class token.

        The normalised picture is padded with zeros to whole patches, to the right and below.
        """
        network, patch = self._network, self.patch
        image = torch.from_numpy(np.array(picture, order="C")).to(self._device).permute(2, 0, 1).float() / 255
        image = (image - image.new_tensor(MEAN)[:, None, None]) / image.new_tensor(STD)[:, None, None]
        height, width = picture.shape[:2]
        image = F.pad(image, (0, -width % patch, 0, -height % patch))[None]
        tokens = network.norm_pre(network._pos_embed(network.patch_embed(image)))
        for block in network.blocks[:-1]:
            tokens = block(tokens)
        last = network.blocks[-1]
        keys = last.attn.qkv(last.norm1(tokens)).chunk(3, -1)[1]
        return keys[0, 1:].float().cpu().numpy(), (-(-height // patch), -(-width // patch))


def _built(state: dict[str, Tensor], layout: dict, path: Path) -> VisionTransformer:
    try:
        embedding, places = state["patch_embed.proj.weight"], state["pos_embed"].shape[1] - 1
        width, patch = embedding.shape[0], embedding.shape[-1]
        depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
        side = math.isqrt(places)
        if side * side != places or embedding.shape[-2] != patch:
            raise ValueError(f"{places} places, patches of {tuple(embedding.shape[-2:])}")
        return VisionTransformer(
            img_size=side * patch,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=int(layout.get("heads", max(1, width // HEAD_WIDTH))),
            mlp_ratio=hidden / width,
            num_classes=0,
            dynamic_img_size=True,
        )
    except (KeyError, IndexError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise DetectorError(f"{path} holds no vision transformer of DINO's kind ({error})") from error
