"""MuonConv is held against torch's own Muon (matrices) and SGD (everything else), and against linear algebra."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from registry.optimizers.muon import MuonConv, newton_schulz


def with_gradients(*shapes: tuple[int, ...], seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


def next_gradients(*groups: list[nn.Parameter], seed: int) -> None:
    for parameters in groups:
        generator = torch.Generator().manual_seed(seed)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def moved(parameters: list[nn.Parameter], **arguments: object) -> list[Tensor]:
    before = [p.detach().clone() for p in parameters]
    MuonConv(parameters, **arguments).step()  # type: ignore[arg-type]
    return [p.detach() - b for p, b in zip(parameters, before, strict=True)]


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_newton_schulz_keeps_singular_vectors_and_pushes_singular_values_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = values.clamp(min=0.05 * values[0].item())  # what is nearly singular takes more than 5 iterations
    result = newton_schulz(((u * values) @ vt)[None], steps=5)[0].float()
    assert torch.linalg.svdvals(result).sub(1).abs().max() < 0.4
    inside = u.mT @ result @ vt.mT
    assert (inside - inside.diag().diag()).abs().max() < 0.03


def test_a_batch_equals_its_matrices_one_by_one() -> None:
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([newton_schulz(matrix[None], steps=5) for matrix in matrices])
    torch.testing.assert_close(newton_schulz(matrices, steps=5), alone)


@pytest.mark.parametrize("nesterov", [True, False])
def test_matrices_move_as_with_torchs_muon(nesterov: bool) -> None:
    ours, theirs = with_gradients((12, 30), (12, 30)), with_gradients((12, 30), (12, 30))
    arguments = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.2}
    optimizers = [MuonConv(ours, **arguments), torch.optim.Muon(theirs, **arguments)]  # type: ignore[arg-type]
    for seed in range(4):
        next_gradients(ours, theirs, seed=seed)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=4e-3, rtol=0)  # both iterate in bfloat16


@pytest.mark.parametrize("nesterov", [True, False])
def test_vectors_move_as_with_torchs_sgd(nesterov: bool) -> None:
    ours, theirs = with_gradients((7,), (), (5,)), with_gradients((7,), (), (5,))
    arguments = {"momentum": 0.8, "nesterov": nesterov, "weight_decay": 0.3}
    optimizers = [
        MuonConv(ours, lr=0.1, sgd_scale=0.5, **arguments),  # type: ignore[arg-type]
        torch.optim.SGD(theirs, lr=0.05, **arguments),  # type: ignore[arg-type]
    ]
    for seed in range(4):
        next_gradients(ours, theirs, seed=seed)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_a_kernel_moves_as_the_matrix_it_flattens_to() -> None:
    (kernel,) = with_gradients((8, 3, 3, 3))
    matrix = nn.Parameter(kernel.detach().reshape(8, 27).clone())
    matrix.grad = kernel.grad.reshape(8, 27).clone()  # type: ignore[union-attr]
    torch.testing.assert_close(moved([kernel], lr=0.1)[0].reshape(8, 27), moved([matrix], lr=0.1)[0])


def test_the_memory_format_of_a_kernel_does_not_matter() -> None:
    (plain,) = with_gradients((8, 4, 3, 3))
    last = nn.Parameter(plain.detach().clone().to(memory_format=torch.channels_last))
    last.grad = plain.grad.clone().to(memory_format=torch.channels_last)  # type: ignore[union-attr]
    torch.testing.assert_close(moved([last], lr=0.1, normalize=True)[0], moved([plain], lr=0.1, normalize=True)[0])


def test_normalize_gives_each_tensor_the_norm_of_its_rows_before_the_step() -> None:
    parameters = with_gradients((9, 4, 3, 3))
    MuonConv(parameters, lr=0.0, normalize=True).step()
    assert parameters[0].norm().item() == pytest.approx(3.0)


def test_update_sgd_steps_along_the_gradient() -> None:
    parameters = with_gradients((6, 10))
    (step,) = moved(parameters, lr=0.1, update="sgd", momentum=0.0, sgd_scale=2.0)
    torch.testing.assert_close(step, -0.2 * parameters[0].grad)  # type: ignore[operator]


def test_update_orthogonal_refuses_vectors() -> None:
    with pytest.raises(ValueError, match="two or more dimensions"):
        MuonConv(with_gradients((6,)), lr=0.1, update="orthogonal")


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.2},
        {"momentum": 0.1},
        {"nesterov": False},
        {"weight_decay": 0.5},
        {"update": "sgd"},
        {"normalize": True},
        {"ns_steps": 1},
        {"sgd_scale": 3.0},
    ],
)
def test_each_argument_changes_the_steps(change: dict[str, object]) -> None:
    base, changed = with_gradients((6, 10), (4,)), with_gradients((6, 10), (4,))
    one = MuonConv(base, lr=0.1)
    other = MuonConv(changed, **{"lr": 0.1, **change})  # type: ignore[arg-type]
    for seed in range(2):
        next_gradients(base, changed, seed=seed)
        one.step()
        other.step()
    assert any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(base, changed, strict=True))


def test_a_saved_state_continues_bit_for_bit() -> None:
    straight = with_gradients((6, 3, 3, 3), (6,))
    optimizer = MuonConv(straight, lr=0.1)
    optimizer.step()
    resumed = copy.deepcopy(straight)
    other = MuonConv(resumed, lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    next_gradients(straight, resumed, seed=9)
    optimizer.step()
    other.step()
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))


def test_frozen_tensors_and_zero_gradients_stay_put() -> None:
    frozen, silent = with_gradients((4, 6), (4, 6))
    frozen.grad = None
    silent.grad = torch.zeros_like(silent)
    assert all(step.count_nonzero() == 0 for step in moved([frozen, silent], lr=0.1))


def test_it_trains_a_convolutional_network_under_a_one_cycle() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    images, targets = torch.randn(32, 1, 8, 8), torch.arange(32) % 2
    optimizer = MuonConv(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=20)
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(images), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    assert losses[-1] < 0.6 * losses[0]
