"""Which device multiplies which numbers itself."""

import torch

from stcn_core.precision import computes_in


def test_devices() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert computes_in(torch.float32, cuda)
    assert computes_in(torch.float16, cuda)
    assert not computes_in(torch.float16, cpu)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities.get("avx512_bf16"):
        assert computes_in(torch.bfloat16, cpu)
