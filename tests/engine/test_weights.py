"""Weights to start from: whose head they bring, and that damage is noticed."""

import json
import math
import os
import pickle
from collections import OrderedDict

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from registry.errors import CheckpointError
from registry.models import pretrained, torchvision
from trainer.engine import checkpoint
from trainer.engine.precision import BF16, Precision, products
from trainer.engine.weights import as_evaluated, load_weights, read_weights, to_safetensors

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
    assert load_weights(model, path, ["cross", "ring"], HEAD) == f"weights from {path}: all 4 tensors"
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before.parameters(), strict=True))


def test_a_buffer_that_no_state_dict_holds_and_that_training_has_moved_is_said(tmp_path):
    def centred() -> nn.Module:
        model = network()
        model.register_buffer("centre", torch.zeros(3), persistent=False)
        return model

    for moved, said in ((1.0, "; centre is in no state dict and begins as the network makes it"), (0.0, "")):
        path, model = tmp_path / f"{moved}.pt", centred()
        state = {"model": model.state_dict(), "buffers": {"centre": torch.full((3,), moved)}}
        checkpoint.write(path, {**state, "class_names": ["cross", "ring"]})
        assert load_weights(centred(), path, ["cross", "ring"], HEAD) == f"weights from {path}: all 4 tensors{said}"


def test_averaged_weights_are_taken_under_every_name_that_tied_ones_have():
    raw, mean = torch.ones(2), torch.zeros(2)
    state = {"model": {"a": raw, "twin": raw.clone(), "count": torch.tensor(3)}, "averaging": {"average": {"a": mean}}}
    assert {name: each.tolist() for name, each in as_evaluated(state)["model"].items()} == {
        "a": [0, 0],
        "twin": [0, 0],
        "count": 3,
    }
    assert as_evaluated({"model": {"a": raw}, "averaging": None})["model"]["a"] is raw


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
    assert line == f"weights from {path}: 2 of 4 tensors; the head (2.bias, 2.weight) starts anew: {said}"
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
    assert load_weights(network(), path, ["a", "b"], HEAD) == (
        f"weights from {path}: all 4 tensors; the head is kept, because the file does not tell its classes and their "
        "number fits"
    )
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


# ------------------------------------------------------------------------------------------- files of other programs
KINDS = {  # how people save a state dict
    "pth": torch.save,
    "pt": torch.save,
    "safetensors": safetensors.torch.save_file,
}
ALL = "all 4 tensors; the head is kept, because the file does not tell its classes and their number fits"


def plain(model, before=""):
    return {f"{before}{name}": tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", ["", "module.", "_orig_mod.", "_orig_mod.module.", "model.", "backbone.net."])
def test_a_plain_state_dict_is_taken_whatever_a_wrapper_put_before_its_names(tmp_path, kind, before):
    theirs, ours = network(), nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    path = tmp_path / f"weights.{kind}"
    KINDS[kind](plain(theirs, before), path)
    said = f", without '{before}' before their names" if before else ""
    line = load_weights(ours, path, ["cross", "ring"], HEAD)
    assert line == f"weights from {path}: {ALL.replace('tensors;', f'tensors{said};')}"
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("under", ["state_dict", "model_state_dict", "model", "net", "anything"])
def test_a_state_dict_within_what_a_training_saved_is_found(tmp_path, under):
    path, theirs, ours = tmp_path / "last.ckpt", network(), network(3)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1).state_dict()
    torch.save({"epoch": 7, under: plain(theirs, "module."), "optimizer": optimizer, "best": 0.93}, path)
    line = load_weights(ours, path, ["a", "b", "c"], HEAD)
    assert "2 of 4 tensors, without 'module.' before their names; the head" in line
    assert torch.equal(ours[0].weight, theirs[0].weight)


def test_a_part_that_was_compiled_on_its_own_is_found_within_the_names(tmp_path):
    path, theirs, ours = tmp_path / "w.pth", network(), network()
    torch.save({name.replace("0.", "0._orig_mod."): tensor for name, tensor in plain(theirs).items()}, path)
    assert load_weights(ours, path, ["a", "b"], HEAD) == f"weights from {path}: {ALL}"


class Named(nn.Module):
    def __init__(self, head="fc", classes=2, extra=""):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.add_module(head, nn.Linear(4, classes))
        if extra:
            self.add_module(extra, nn.Linear(4, 4))


def test_a_backbone_without_our_head_is_taken_and_what_has_no_place_is_named(tmp_path):
    path, theirs, ours = tmp_path / "w.pth", Named("projector", 16), Named()
    old = {name: tensor for name, tensor in plain(theirs).items() if "num_batches" not in name}
    torch.save(old, path)
    assert load_weights(ours, path, ["a", "b"], ["fc.weight", "fc.bias"]) == (
        f"weights from {path}: 6 of 9 tensors; 1 counters of batches start at 0; no place here have projector.bias, "
        "projector.weight; the head (fc.bias, fc.weight) starts anew: the file has none"
    )
    assert torch.equal(ours.stem[0].weight, theirs.stem[0].weight)


def test_a_deeper_network_of_which_a_part_would_fit_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(plain(nn.Sequential(*network(), nn.Linear(2, 2))), path)
    with pytest.raises(CheckpointError, match=r"0 missing, 2 unknown, 0 of another size: 3\.bias, 3\.weight"):
        load_weights(network(), path, ["a", "b"], HEAD)


def test_a_network_with_other_names_is_refused_with_some_of_them(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(plain(Named(), "encoder."), path)
    ours = nn.Sequential(OrderedDict(first=nn.Linear(4, 3), last=nn.Linear(3, 2)))
    with pytest.raises(CheckpointError, match=r"2 missing, 0 unknown, .*: first\.bias, first\.weight\)") as caught:
        load_weights(ours, path, ["a", "b"], ["last.weight", "last.bias"])
    assert "it has encoder.fc.bias, encoder.fc.weight" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "holds no state dict: tensors by name"),
        ([torch.zeros(2)], "holds no state dict: tensors by name"),
        (
            {"student": {"w": torch.zeros(1)}, "teacher": {"w": torch.zeros(1)}},
            "holds several state dicts (student, teacher): tensors by name",
        ),
    ],
)
def test_a_file_without_one_state_dict_is_refused_with_how_to_save_one(tmp_path, content, said):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert caught.value.message == f"{path}: {said}"
    assert "torch.save(model.state_dict(), ...)" in caught.value.hint


def changed(name, value):
    """Return the state dict of a network, in which the first number of a tensor is `value`."""
    state = {each: tensor.double() for each, tensor in network().state_dict().items()}
    state[name].view(-1)[0] = value
    return state


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        (changed("0.weight", math.nan), "0.weight has 1 of 12 numbers that are not finite"),
        (changed("2.bias", -math.inf), "2.bias has 1 of 2 numbers that are not finite"),
        (changed("2.bias", 1e300), "2.bias has 1 of 2 numbers that are not finite"),
        (
            {name: torch.full_like(each, math.nan) for name, each in network().state_dict().items()},
            "0.weight has 12 of 12 numbers that are not finite; the like holds of 3 more of 4 tensors",
        ),
        (
            {name: each.long() for name, each in network().state_dict().items()},
            "0.weight holds whole numbers (int64), not floating-point numbers; the like holds of 3 more of 4 tensors",
        ),
        (
            {**network().state_dict(), "0.bias": torch.zeros(3, dtype=torch.complex64)},
            "0.bias holds complex numbers (complex64), not floating-point numbers",
        ),
        (
            {**network().state_dict(), "0.bias": torch.zeros(3, dtype=torch.bool)},
            "0.bias holds whole numbers (bool), not floating-point numbers",
        ),
    ],
    ids=["NaN", "infinite", "too great", "all NaN", "int64", "complex", "bool"],
)
def test_weights_that_no_network_can_answer_with_are_refused_by_the_tensors_name(tmp_path, kind, state, said, recwarn):
    path, model = tmp_path / f"w.{kind}", network()
    try:
        KINDS[kind](state, path)
    except KeyError as error:
        pytest.skip(f"this safetensors writes no {error}")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path, ["a", "b"], HEAD)
    assert caught.value.message == f"{path}: these weights are of no use: {said}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not recwarn.list


def test_a_variance_below_zero_is_refused(tmp_path):
    path, model = tmp_path / "w.pth", nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    torch.save({**model.state_dict(), "0.running_var": torch.tensor([1.0, -1.0, 1.0, 1.0])}, path)
    with pytest.raises(CheckpointError, match=r"of no use: 0\.running_var is a variance below 0"):
        load_weights(model, path, ["a", "b"], ["1.weight", "1.bias"])


def test_a_sparse_tensor_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({**network().state_dict(), "0.weight": torch.eye(3, 4).to_sparse()}, path)
    with pytest.raises(CheckpointError, match=r"0\.weight holds no plain numbers"):
        load_weights(network(), path, ["a", "b"], HEAD)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_numbers_of_another_width_are_taken(tmp_path, dtype):
    path, model = tmp_path / "w.pth", network()
    torch.save({name: tensor.to(dtype) for name, tensor in network(2).state_dict().items()}, path)
    assert "all 4 tensors" in load_weights(model, path, ["a", "b"], HEAD)
    assert torch.equal(model[0].bias, network()[0].bias.to(dtype).float())


def test_what_is_not_finite_in_a_head_that_starts_anew_does_no_harm(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(changed("2.bias", math.nan), path)
    assert "2 of 4 tensors; the head" in load_weights(network(3), path, ["a", "b", "c"], HEAD)


def test_a_mask_of_the_networks_own_may_be_infinite(tmp_path):
    path, model = tmp_path / "w.pth", network()
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    torch.save(model.state_dict(), path)
    assert "all 5 tensors" in load_weights(model, path, ["a", "b"], HEAD)


def test_a_damaged_checkpoint_of_ours_is_not_taken_for_a_file_of_others(tmp_path):
    path = tmp_path / "best.pt"
    checkpoint.write(path, {"model": network().state_dict(), "class_names": ["a", "b"]})
    state = torch.load(path, weights_only=True)
    state["model"]["0.bias"][0] += 1
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="does not match its digest"):
        read_weights(path)


def test_a_safetensors_file_says_what_its_network_was_learnt_for_under_the_digest(tmp_path):
    path = tmp_path / "best.safetensors"
    content = to_safetensors(network().state_dict(), ["cross", "ring"], {"input": '{"channels": 3}'})
    path.write_bytes(content)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["input"]) == ("pt", '{"channels": 3}')
    assert json.loads(metadata["class_names"]) == ["cross", "ring"]
    path.write_bytes(content.replace(b"channels", b"chamnels"))
    with pytest.raises(CheckpointError, match="does not match its digest"):
        read_weights(path)


def test_a_safetensors_file_of_before_which_told_its_classes_alone_is_still_read(tmp_path):
    path, tensors, names = tmp_path / "best.safetensors", network().state_dict(), ["cross", "ring"]
    digest = checkpoint.digest({"model": tensors, "class_names": names})
    safetensors.torch.save_file(tensors, path, {"class_names": json.dumps(names), "digest": digest})
    assert read_weights(path).class_names == ("cross", "ring")


# ------------------------------------------------------------------------------------------------- nothing is fetched
def test_the_architecture_of_a_pretrained_model_is_built_without_its_weights(monkeypatch):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: pytest.fail("fetched"))
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


@pytest.mark.parametrize(
    ("kind", "device", "deterministic", "said"),
    [
        ("fp32", "cuda:0", False, "; products in TF32, whole with train.deterministic: true"),
        ("fp32", "cuda:0", True, ""),
        ("fp32", "cpu", False, ""),
        ("bf16", "cuda:0", False, ""),
    ],
)
def test_that_a_gpu_shortens_the_factors_of_fp32_is_said(kind, device, deterministic, said):
    precision = Precision() if kind == "fp32" else BF16(torch.device("cpu"))
    assert products(precision, torch.device(device), deterministic=deterministic) == said
