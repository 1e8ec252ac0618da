"""Results on their way from the device to the host, without the host waiting while it could queue more work."""

import numpy as np
import torch
from torch import Tensor


class HostCopy:
    """Tensors that whoever made them need not wait for: copying begins here, on the stream that makes them.

    `arrays` waits for them, and not for what was queued behind them: a plain `Tensor.cpu()` in another thread would
    wait for that, too, because torch's threads share a device's stream. Tensors of a CPU are passed on as they are.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._event = None
        self._tensors = tensors
        if tensors[0].device.type == "cuda":
            # Only copies into pinned memory run on their own.
            hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
            self._tensors = tuple(
                host.copy_(tensor, non_blocking=True) for host, tensor in zip(hosts, tensors, strict=True)
            )
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensors[0].device))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The tensors as NumPy arrays, once they are there; may be asked again, from any thread."""
        if self._event is not None:
            self._event.synchronize()
        return tuple(tensor.numpy() for tensor in self._tensors)
