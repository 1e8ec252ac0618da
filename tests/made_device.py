"""A pretended CUDA device for machines without one: tensors that compute on the CPU, but say they are on "cuda".

What a GPU refuses is refused: an operation on tensors of two devices, NumPy's view of a device's tensor. What a GPU
does later is done later: a copy into pinned memory is garbage until an event recorded behind it was waited for. And
what makes the host wait for the device is counted: transfers, numbers read, sizes that depend on data, copies from
memory that is not pinned. What is left to a real GPU: its kernels, their rounding and their speed.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from stcn_core import frames

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten
# On CUDA these read a number or a size back (torch.cuda.set_sync_debug_mode warns of them).
READ_BACK = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.is_nonzero,
    aten.item,
    aten.masked_select,
    aten.nonzero,
}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten.index_fill_}
CROSSING = {aten.copy_, aten._to_copy, aten._has_compatible_shallow_copy_type}


class Watch:
    """waits: per thread, what made it wait for the device -> how often. calls: operations on the device."""

    def __init__(self) -> None:
        self.waits: dict[int, Counter[str]] = {}
        self.calls = 0
        self.copies: list[tuple[Tensor, Tensor]] = []  # into pinned memory, not done yet

    def wait(self, why: str) -> None:
        self.waits.setdefault(threading.get_ident(), Counter())[why] += 1

    def here(self) -> Counter[str]:
        """Of the calling thread."""
        return self.waits.get(threading.get_ident(), Counter())


class Event:
    """In the place of torch.cuda.Event."""

    def record(self, _stream: object = None) -> None:
        self._behind = len(_watch.copies)

    def synchronize(self) -> None:
        _watch.wait("an event")
        with torch.inference_mode():
            for host, elem in _watch.copies[: self._behind]:
                host.copy_(elem)


_watch = Watch()


class DeviceTensor(Tensor):
    """elem: the CPU's tensor that computes in its place. torch's own code sees a CPU's, Python code one of "cuda"."""

    elem: Tensor
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls, elem: Tensor) -> "DeviceTensor":
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(
                cls,
                elem.size(),
                strides=elem.stride(),
                storage_offset=elem.storage_offset(),
                dtype=elem.dtype,
                requires_grad=elem.requires_grad,
            )
        made.elem = elem
        return made

    def __repr__(self) -> str:
        return f"DeviceTensor({self.elem!r})"

    def cpu(self) -> Tensor:
        _watch.wait("cpu")
        return self.elem.clone()

    def tolist(self) -> list:
        _watch.wait("tolist")
        return self.elem.tolist()

    def numpy(self, *_: object, **__: object) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs, packet = dict(kwargs or {}), func.overloadpacket
        found: list[Tensor] = []
        tree_map_only(Tensor, found.append, (args, kwargs))
        ours = [tensor for tensor in found if isinstance(tensor, DeviceTensor)]
        hosts = [tensor for tensor in found if not isinstance(tensor, DeviceTensor) and tensor.dim()]
        stays = torch.device(kwargs["device"]).type == "cuda" if kwargs.get("device") is not None else bool(ours)
        if packet is aten._has_compatible_shallow_copy_type:
            return False
        if hosts and packet not in INDEXED | CROSSING:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, cuda:0 and cpu")
        _watch.calls += 1
        if packet in READ_BACK:
            _watch.wait(packet.__name__)
        if packet in INDEXED and hosts:
            _watch.wait("an index from the host")  # also a list
        if packet in INDEXED and any(tensor.dtype in (torch.bool, torch.uint8) for tensor in found[1:]):
            _watch.wait("an index of bools")
        if packet is aten.copy_ and hosts:
            target, source, later = args[0], args[1], len(args) > 2 and args[2] or kwargs.get("non_blocking")
            if not isinstance(target, DeviceTensor) and later and getattr(target, "is_pretended_pinned", False):
                target.view(torch.uint8).fill_(0xA5)
                _watch.copies.append((target, source.elem.clone()))
                return target
            _watch.wait("copy_ between host and device")
            stays = isinstance(target, DeviceTensor)
        kwargs = {**kwargs, "device": CPU} if kwargs.get("device") is not None else kwargs
        same = {id(tensor.elem): tensor for tensor in ours}
        plain, named = tree_map_only(DeviceTensor, lambda tensor: tensor.elem, (args, kwargs))
        result = func(*plain, **named)
        if not stays:
            if packet is aten._to_copy:
                _watch.wait("to the host")
            return result
        return tree_map_only(Tensor, lambda made: same.get(id(made)) if id(made) in same else cls(made), result)


class _OnCuda(TorchFunctionMode):
    """What Python code makes on "cuda", or brings there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "pin_memory":
            return _pinned(args[0].clone())
        if name == "empty" and kwargs.pop("pin_memory", False):
            return _pinned(func(*args, **kwargs))
        if name == "new_tensor" and isinstance(args[0], DeviceTensor):
            _watch.wait("a copy to the device")
            return DeviceTensor(func(args[0].elem, *args[1:], **kwargs))
        if name == "embedding_bag":  # it makes its offsets itself, out of this mode's sight
            plain, named = tree_map_only(DeviceTensor, lambda tensor: tensor.elem, (args, kwargs))
            return DeviceTensor(func(*plain, **named)) if isinstance(args[0], DeviceTensor) else func(*args, **kwargs)
        named = [*args[1:], kwargs.get("device")] if name == "to" else [kwargs.get("device")]
        if not any(isinstance(each, (str, torch.device)) and torch.device(each).type == "cuda" for each in named):
            return func(*args, **kwargs)
        at_home = [CPU if isinstance(each, (str, torch.device)) else each for each in args]
        kwargs = {**kwargs, **({"device": CPU} if "device" in kwargs else {})}
        if args and isinstance(args[0], DeviceTensor):
            if name == "to":
                return DeviceTensor(func(args[0].elem, *at_home[1:], **kwargs))
            kwargs.pop("device")  # its own
            return func(*args, **kwargs)
        made = func(*at_home, **kwargs)
        if name in ("to", "as_tensor", "tensor"):
            made = made.clone()  # as a transfer does
            pinned = isinstance(args[0], Tensor) and getattr(args[0], "is_pretended_pinned", False)
            if not (pinned and kwargs.get("non_blocking")):
                _watch.wait("a copy to the device")
        return DeviceTensor(made)


def _pinned(tensor: Tensor) -> Tensor:
    tensor.is_pretended_pinned = True
    return tensor


@contextmanager
def pretended_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Inside, torch takes "cuda" for the pretended device, in this thread; others may use tensors made here."""
    global _watch
    _watch = Watch()
    frames._statistics.cache_clear()
    with monkeypatch.context() as patched, _OnCuda():
        patched.setattr(torch.cuda, "Event", Event)
        patched.setattr(torch.cuda, "current_stream", lambda _device=None: None)
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield _watch
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
            frames._statistics.cache_clear()
