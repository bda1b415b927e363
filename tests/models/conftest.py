"""What tests of several families of nets share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

_COMPILE_AND_EXPORT = """
for net in nets:
    clip = torch.randn(2, 3, 4, 32, 32)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    parameters = list(net.parameters())
    expected = torch.autograd.grad(net(clip).square().sum(), parameters)
    found = torch.autograd.grad(compiled(clip).square().sum(), parameters)
    for mine, theirs in zip(found, expected):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    net.eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(net, (clip,), dynamic_shapes={"clip": {0: batch}}).module()
    more = torch.randn(5, 3, 4, 32, 32)
    torch.testing.assert_close(exported(more), net(more))
print("equal")
"""


@pytest.fixture
def compile_and_export() -> Callable[[str], None]:
    """Takes a program that makes `nets` for clips of 4 x 32 x 32: each is one graph, and exports with any batch.

    In a process of its own, without the shape checks of the tests, which the compiler cannot see through.
    """

    def run(program: str) -> None:
        source = f"import torch\ntorch.manual_seed(0)\ntorch.set_num_threads(1)\n{program}\n{_COMPILE_AND_EXPORT}"
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=1800)
        assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr

    return run
