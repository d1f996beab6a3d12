"""The pretended GPU refuses and counts what a GPU does; the tests that stand on it would be worth nothing otherwise."""

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import nn


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: there.mul_(here),
        lambda here, there: torch.cat([there, here]),
        lambda here, there: torch.stack([there.sum(), here.sum()]),
        lambda here, there: torch.where(there > 0, here, there),
        lambda here, there: nn.functional.linear(there[None], here[None]),
        lambda here, there: here[there.long()],
        lambda here, there: torch._foreach_add_([there], [here]),
        lambda here, there: there.grad + here,
    ],
)
def test_tensors_of_two_devices_do_not_meet(mixed) -> None:
    with pretended_gpu():
        there = torch.ones(3, device="cuda", requires_grad=True)
        (there * 2).sum().backward()
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"), torch.no_grad():
            mixed(torch.ones(3), there)


def test_a_scalar_of_the_cpu_is_taken_along_and_the_result_lies_on_the_device() -> None:
    with pretended_gpu():
        there = torch.tensor([1.0, 2.0], device="cuda")
        total = there * torch.tensor(3.0)
        assert (total.device.type, total.is_cuda, total.tolist()) == ("cuda", True, [3.0, 6.0])
        assert total.cpu().device.type == total.to("cpu").device.type == "cpu"


def test_numpy_and_generators_of_the_cpu_stay_on_the_cpu() -> None:
    with pretended_gpu():
        there = torch.zeros(3, device="cuda")
        with pytest.raises(TypeError, match="can't convert"):
            there.numpy()
        with pytest.raises(TypeError, match="can't convert"):
            np.asarray(there)
        with pytest.raises(RuntimeError, match="expected a 'cuda' generator"):
            torch.rand(3, generator=torch.Generator(), device="cuda")


def test_a_moved_network_learns_there_and_its_gradients_lie_there() -> None:
    with pretended_gpu():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
        network.to("cuda")
        network(torch.ones(2, 3, 5, 5, device="cuda")).sum().backward()
        tensors = [*network.parameters(), *network.buffers(), *(p.grad for p in network.parameters())]
        assert {each.device.type for each in tensors} == {"cuda"}


def test_what_waits_for_the_device_is_counted() -> None:
    with pretended_gpu() as gpu:
        there = torch.ones(3).to("cuda", non_blocking=True)
        (there * 2).sum()
        assert gpu.waits == []
        float(there.sum())
        there.nonzero()
        there[there > 0]
        torch.ones(3).to("cuda")
        there.cpu()
        assert gpu.waits == ["__float__", "nonzero", "__getitem__", "to cuda", "to cpu"]
        assert gpu.moved == 3
