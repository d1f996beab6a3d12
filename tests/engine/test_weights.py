"""Weights to start from: whose head they bring, and that damage is noticed."""

import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from registry.errors import CheckpointError
from registry.models import pretrained, torchvision
from trainer.engine import checkpoint
from trainer.engine.weights import load_weights, read_weights, to_safetensors

HEAD = ["2.weight", "2.bias"]


def network(classes=2, width=3):
    torch.manual_seed(classes)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, classes))


@pytest.fixture(params=["pt", "safetensors"])
def saved(tmp_path, request):
    """Weights of a network for the classes cross and ring, and the network."""
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    path = tmp_path / f"weights.{request.param}"
    if request.param == "pt":
        checkpoint.write(path, {"model": model.state_dict(), "class_names": ["cross", "ring"]})
    else:
        path.write_bytes(to_safetensors(model.state_dict(), ["cross", "ring"]))
    return path, model


def test_the_head_of_the_same_classes_is_kept(saved):
    path, before = saved
    model = network()
    assert load_weights(model, path, ["cross", "ring"], HEAD) == f"weights from {path}"
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["bar", "disc"], "it was learnt for cross, ring, not bar, disc"),
        (["cross", "disc"], "it was learnt for cross, ring, not cross, disc"),
        (["cross", "ring", "x"], "it was learnt for cross, ring, not cross, ring, x"),
    ],
)
def test_the_head_of_other_classes_starts_anew_whatever_their_number(saved, names, said):
    path, before = saved
    model, fresh = network(len(names)), network(len(names))
    line = load_weights(model, path, names, HEAD)
    assert line == f"weights from {path}; the head (2.bias, 2.weight) starts anew: {said}"
    assert torch.equal(model[0].weight, before[0].weight)
    assert torch.equal(model[2].weight, fresh[2].weight)
    assert torch.equal(model[2].bias, fresh[2].bias)


def test_the_head_of_the_same_classes_in_another_order_is_put_in_order(saved):
    path, before = saved
    model = network()
    assert load_weights(model, path, ["ring", "cross"], HEAD).endswith(
        "the head's classes put in this order: ring, cross"
    )
    images = torch.randn(5, 4)
    assert torch.equal(model(images), before(images)[:, [1, 0]])


def test_weights_that_tell_no_classes_are_taken_by_size(tmp_path):
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file(network().state_dict(), path)
    assert load_weights(network(), path, ["a", "b"], HEAD) == f"weights from {path}"
    assert "starts anew: the classes differ" in load_weights(network(3), path, ["a", "b", "c"], HEAD)


def test_weights_of_another_network_are_refused(saved):
    path, _ = saved
    with pytest.raises(CheckpointError, match="0 missing, 0 unknown, 3 of another size"):
        load_weights(network(width=5), path, ["cross", "ring"], HEAD)


def test_a_flipped_bit_of_a_safetensors_file_is_noticed(tmp_path):
    content = bytearray(to_safetensors(network().state_dict(), ["cross", "ring"]))
    path = tmp_path / "best.safetensors"
    for place in (-1, -40, content.index(b"ring"), content.index(b'"digest":"') + 12):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"does not match its digest|cannot be read as safetensors"):
            read_weights(path)
    path.write_bytes(content)
    assert read_weights(path).class_names == ("cross", "ring")


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights"])
def test_a_safetensors_file_is_read_whatever_its_name(tmp_path, name):
    path, model = tmp_path / name, network()
    path.write_bytes(safetensors.torch.save(model.state_dict()))
    assert torch.equal(read_weights(path).tensors["0.weight"], model.state_dict()["0.weight"])


def test_a_pickle_of_another_program_is_refused_without_a_warning_of_torch(tmp_path, recwarn):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"0.weight": [1.0]}, protocol=4))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_weights(path)
    assert not recwarn.list


class Canary:
    def __reduce__(self):
        return (os.mkdir, ("canary",))


def test_a_refused_file_is_explained_without_the_advice_to_read_it_unsafely(tmp_path):
    path = tmp_path / "theirs.pt"
    torch.save({"model": Canary()}, path)
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    said = f"{caught.value.message} {caught.value.hint}"
    assert "posix.mkdir" in said or "nt.mkdir" in said
    assert "only plain values and tensors are read" in said
    assert "safetensors.torch.save_file" in caught.value.hint
    assert not any(
        word in said for word in ("weights_only", "trusted source", "arbitrary code execution", "torch.load")
    )


# ------------------------------------------------------------------------------------------------- nothing is fetched
def test_the_architecture_of_a_pretrained_model_is_built_without_its_weights(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("weights were fetched"))
    plain = torchvision.build("squeezenet1_1", num_classes=3)
    with pretrained.architecture_only():
        built = torchvision.build("squeezenet1_1", num_classes=3, weights="DEFAULT")
    assert {name: t.shape for name, t in built.state_dict().items()} == {
        name: t.shape for name, t in plain.state_dict().items()
    }
    assert pretrained.weights_are_fetched()


def test_what_pretrained_weights_switch_on_beside_numbers_stays_on():
    with pretrained.architecture_only():
        built = torchvision.build("googlenet", num_classes=3, weights="DEFAULT")
    assert built.transform_input
    assert built.aux1 is None
