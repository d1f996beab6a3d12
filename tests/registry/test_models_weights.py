"""Pretrained weights from a file and from torch.hub's cache: what is taken, what is said, what is refused."""

from __future__ import annotations

import io
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import Tensor, nn

from registry.errors import CheckpointError, DataError
from registry.models import pretrained
from registry.models import torchvision as ours
from trainer.experiment.checking import check_built, check_data
from trainer.experiment.known import DataKnown
from trainer.recipe.load import load_recipe

NAME = "squeezenet1_1"  # small: 1.2 million parameters
HEAD = {"classifier.1.weight", "classifier.1.bias"}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    """What another program has learnt: 1,000 classes of RGB images."""
    torch.manual_seed(1)
    return dict(torchvision.models.get_model(NAME).state_dict())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def built(weights: str, name: str = NAME, **arguments: Any) -> tuple[nn.Module, list[str]]:
    """Return a model for three classes, and what was said of its weights."""
    with pretrained.listening() as lines:
        return ours.build(name, num_classes=3, weights=weights, **arguments), lines


def assert_all_but_head(model: nn.Module, tensors: dict[str, Tensor], head: set[str] = HEAD) -> None:
    kept = model.state_dict()
    assert [name for name in kept if name not in head and not torch.equal(kept[name], tensors[name])] == []
    assert all(len(kept[name]) == 3 for name in head)


# ------------------------------------------------------------------------------------------------------ what is taken
@pytest.mark.parametrize(
    ("file", "save", "said"),
    [
        ("a.pth", torch.save, "50 of 52 tensors"),
        ("a.safetensors", safetensors.torch.save_file, "50 of 52 tensors"),
        (
            "a.ckpt",
            lambda state, file: torch.save(
                {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in state.items()}}, file
            ),
            "50 of 52 tensors, without 'module.' before their names",
        ),
        (
            "a.bin",
            lambda state, file: torch.save({**state, "neck.weight": torch.ones(1)}, file),
            "50 of 52 tensors; no place here have neck.weight",
        ),
    ],
)
def test_a_file_of_weights_is_taken_but_for_its_last_layer(
    file: str, save: Callable[..., None], said: str, theirs: dict[str, Tensor]
) -> None:
    save(theirs, file)
    model, lines = built(f"./{file}")
    assert_all_but_head(model, theirs)
    assert lines == [
        f"weights from {file}: {said}; the last layer starts anew (classifier.1.weight, classifier.1.bias)"
    ]
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_the_last_layer_starts_anew_where_the_file_lacks_it_and_where_it_would_fit(theirs: dict[str, Tensor]) -> None:
    torch.save({name: tensor for name, tensor in theirs.items() if name not in HEAD}, "body.pth")
    assert_all_but_head(built("./body.pth")[0], theirs)
    fitting = {name: tensor[:3] if name in HEAD else tensor for name, tensor in theirs.items()}
    torch.save(fitting, "fitting.pth")
    assert not torch.equal(
        built("./fitting.pth")[0].state_dict()["classifier.1.weight"], fitting["classifier.1.weight"]
    )


def test_weights_of_other_channels_are_made_into_the_images_own(theirs: dict[str, Tensor]) -> None:
    torch.save(theirs, "rgb.pth")
    grey, _ = built("./rgb.pth", in_channels=1)
    colour = theirs["features.0.weight"]
    torch.testing.assert_close(grey.state_dict()["features.0.weight"], colour.mean(1, keepdim=True) * 3)
    torch.save(grey.state_dict(), "grey.pth")
    again, _ = built("./grey.pth", in_channels=1)
    assert_all_but_head(again, grey.state_dict())
    back, _ = built("./grey.pth", in_channels=3)
    assert back(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    torch.testing.assert_close(back.state_dict()["features.0.weight"].sum(1), colour.sum(1))


def test_a_network_that_asks_for_its_version_is_taken_from_a_file_that_tells_none() -> None:
    state = torchvision.models.mnasnet0_5().state_dict()
    safetensors.torch.save_file(dict(state), "mnasnet.safetensors")
    model, _ = built("./mnasnet.safetensors", "mnasnet0_5")
    assert_all_but_head(model, state, {"classifier.1.weight", "classifier.1.bias"})


def test_auxiliary_heads_are_left_out_and_named() -> None:
    torch.save(torchvision.models.googlenet(init_weights=False).state_dict(), "googlenet.pth")
    model, (line,) = built("./googlenet.pth", "googlenet")
    assert "no place here have aux1.conv.bn.bias" in line
    assert model.aux1 is None
    assert not model.transform_input  # as the network that was saved
    torch.save(torchvision.models.googlenet(init_weights=False).state_dict(), "googlenet-1378be20.pth")
    assert built("./googlenet-1378be20.pth", "googlenet")[0].transform_input  # as torchvision's own were learnt
    grey, _ = built("./googlenet.pth", "googlenet", in_channels=1)
    assert grey.eval()(torch.zeros(2, 1, 64, 64)).shape == (2, 3)  # there are no colours to transform


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_scale_their_input_see_grey_pictures_as_the_same_in_three_channels(name: str) -> None:
    file = torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    torch.save(torchvision.models.get_model(name, init_weights=False).state_dict(), file)
    seen: list[Tensor] = []
    shades = torch.rand(2, 1, 96, 96)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    three = (shades - mean[:, None, None]) / deviation[:, None, None]
    for images in (three, (shades - mean.mean()) / deviation.mean()):
        network = built(f"./{file}", name, in_channels=images.shape[1])[0].eval()
        first = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
        first.register_forward_hook(lambda layer, given, made: seen.append(made))
        network(images)
    torch.testing.assert_close(seen[1], seen[0])


NETWORKS = (  # noqa: SIM905 - easier to read
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 "
    "mobilenet_v2 mobilenet_v3_small regnet_x_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_0 swin_t "
    "swin_v2_t vgg11_bn vit_b_16"
).split()


@pytest.mark.slow  # half a second each
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_takes_its_own_weights_but_for_the_last_layer(name: str, channels: int) -> None:
    alone = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = 299 if name == "inception_v3" else 224
    with torch.device("meta"):
        with ours._plans_on_cpu():
            torch.save(torchvision.models.get_model(name, **alone).state_dict(), "theirs.pth")
        model, (line,) = built("./theirs.pth", name, in_channels=channels)
        assert model.eval()(torch.zeros(2, channels, size, size)).shape == (2, 3)
    last = line.rpartition("(")[2].rstrip(")").split(", ")
    assert line.startswith(f"weights from theirs.pth: {len(model.state_dict()) - len(last)} of ")
    assert all(len(model.state_dict()[each]) == 3 for each in last)


@pytest.mark.parametrize(
    ("name", "new", "old"),
    [
        ("densenet121", "denselayer1.norm1.weight", "denselayer1.norm.1.weight"),
        ("densenet121", "denselayer16.conv2.weight", "denselayer16.conv.2.weight"),
        ("vit_b_16", "encoder_layer_0.mlp.0.weight", "encoder_layer_0.mlp.linear_1.weight"),
        ("vit_b_16", "encoder_layer_11.mlp.3.bias", "encoder_layer_11.mlp.linear_2.bias"),
    ],
)
def test_files_that_are_older_than_the_names_are_read_as_upstream_reads_them(name: str, new: str, old: str) -> None:
    with torch.device("meta"):
        names = list(torchvision.models.get_model(name).state_dict())
    assert [each for each in names if each.endswith(new)] != []
    for each in names:
        assert ours._renamed(each) == each
        if each.endswith(new):
            assert ours._renamed(each.replace(new, old)) == each


def test_a_vision_transformer_of_another_size_keeps_where_its_patches_were() -> None:
    def small(size: int) -> Any:
        return torchvision.models.VisionTransformer(size, 16, 1, 2, 8, 16, num_classes=3)

    state = small(64).state_dict()
    same = ours._with_places_of(small(64), dict(state))
    assert same["encoder.pos_embedding"] is state["encoder.pos_embedding"]
    placed = ours._with_places_of(small(32), dict(state))["encoder.pos_embedding"]
    assert placed.shape == (1, 1 + 2 * 2, 8)
    corners = state["encoder.pos_embedding"][:, [0, 1, 4, 13, 16]]  # the class, then the corners of 4 x 4 patches
    torch.testing.assert_close(placed, corners)


# --------------------------------------------------------------------------------------------------------- in a recipe
RECIPE = """version: 1
data: {dataset: {type: Shapes, image_size: 64}}
model: {type: squeezenet1_1, weights: WEIGHTS}
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1}
"""


def said(weights: str, *overrides: str) -> list[str]:
    Path("recipe.yaml").write_text(RECIPE.replace("WEIGHTS", weights))
    loaded = load_recipe("recipe.yaml", overrides)
    if loaded.recipe is None or loaded.catalogue is None:
        return [str(each) for each in loaded.problems]
    return [str(each) for each in check_built(loaded.recipe, loaded.catalogue)]


class Payload:
    """Writes a file when it is unpickled by a reader that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("canary"),)


def truncated(state: Any, save: Callable[..., None]) -> bytes:
    save(state, "whole")
    return Path("whole").read_bytes()[:-5000]


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


BAD: dict[str, tuple[str, Callable[[dict[str, Tensor]], bytes], str]] = {
    "text": (
        "a.pth",
        lambda _: b"no weights here",
        "cannot be read as a checkpoint (it is damaged, or no file of torch",
    ),
    "an empty file": ("a.pth", lambda _: b"", "cannot be read as a checkpoint (it is damaged, or no file of torch)"),
    "a web page": (
        "a.pth",
        lambda _: b"<!DOCTYPE html>",
        "it is a web page, not the file itself) (fetch the file itself",
    ),
    "a pointer": ("a.pth", lambda _: b"version https://git-lfs.github.com/spec/v1\noid", "(fetch it: git lfs pull)"),
    "cut short": ("a.pth", lambda state: truncated(state, torch.save), "cannot be read as a checkpoint (Pytorch"),
    "safetensors cut short": (
        "a.safetensors",
        lambda state: truncated(state, safetensors.torch.save_file),
        "cannot be read as safetensors (",
    ),
    "a damaged one": (
        "a.pth",
        lambda state: b"PK" + truncated(state, torch.save)[9:],
        "(it may have been cut short: fetch it anew) [R205]",
    ),
    "a list": ("a.pth", lambda state: pickled(list(state.values())), "holds no state dict: tensors by name"),
    "no tensors": ("a.pth", lambda _: pickled({"epoch": 3}), "holds no state dict: tensors by name"),
    "a whole network": (
        "a.pth",
        lambda _: pickled(nn.Linear(2, 2)),
        "it asks for torch.nn.modules.linear.Linear; only plain values and tensors are read",
    ),
    "code": ("a.pth", lambda _: pickle.dumps(Payload()), "only plain values and tensors are read"),
    "another network": (
        "a.pth",
        lambda _: pickled(torchvision.models.mobilenet_v3_small().state_dict()),
        "these are the weights of another network (",
    ),
    "another depth": (
        "a.pth",
        lambda state: pickled({**state, "features.13.squeeze.weight": torch.ones(1)}),
        "(0 missing, 1 unknown, 2 of another size: features.13.squeeze.weight, classifier.1.bias, classifier.1.weight) "
        "(name the network that they are of)",
    ),
    "another width": (
        "a.pth",
        lambda state: pickled({name: tensor[:5] for name, tensor in state.items()}),
        "0 missing, 0 unknown, 52 of another size: ",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_before_the_run_with_its_place(case: str, theirs: dict[str, Tensor]) -> None:
    file, make, message = BAD[case]
    Path(file).write_bytes(make(theirs))
    (line,) = said(f"./{file}")
    assert line.startswith(f"recipe.yaml:3:39: model.weights: {file}: ")
    assert message in line
    assert line.endswith("[R205]")
    assert not Path("canary").exists()
    with pytest.raises(CheckpointError):
        built(f"./{file}")


def test_a_file_that_is_not_there_is_refused_before_the_run(here: Path) -> None:
    (line,) = said("./nowhere.pth")
    expected = f"model.weights: nowhere.pth: there is no such file (paths start from {here}) [R205]"
    assert line == f"recipe.yaml:3:39: {expected}"


def test_a_folder_is_answered_with_who_takes_it() -> None:
    Path("runs").mkdir()
    (line,) = said("./runs")
    assert line.endswith("model.weights: runs: is a folder, not a file (train.start_from takes a run's folder) [R205]")


def test_weights_that_no_network_can_answer_with_are_refused(theirs: dict[str, Tensor]) -> None:
    torch.save({name: tensor * float("nan") for name, tensor in theirs.items()}, "nan.pth")
    with pytest.raises(CheckpointError, match=r"features\.0\.weight has 1,728 of 1,728 numbers that are not finite"):
        built("./nan.pth")


def test_a_name_that_is_none_is_answered_with_the_names_and_is_taken_for_no_path() -> None:
    (line,) = said("DEFALT")
    assert "expected 'IMAGENET1K_V1', 'DEFAULT', a file (./NAME.pth) or null, got 'DEFALT'" in line
    assert "did you mean 'DEFAULT'?" in line


def test_a_good_file_and_a_name_are_right_and_home_is_found(theirs: dict[str, Tensor], monkeypatch, here: Path) -> None:
    torch.save(theirs, "good.pth")
    monkeypatch.setenv("HOME", str(here))
    assert said("~/good.pth") == said("DEFAULT") == []


def test_a_resumed_run_and_a_trained_network_need_the_file_no_more() -> None:
    text = RECIPE.replace("WEIGHTS", "./gone.pth").replace("{epochs: 1}", "{epochs: 1, freeze: ['features.**']}")
    Path("recipe.yaml").write_text(text)
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe is not None
    assert loaded.catalogue is not None
    known = DataKnown(num_classes=10, channels=3, image_size=(64, 64), train_images=1000)
    names = [f"class {index}" for index in range(10)]
    assert [one.rule for one in check_data(loaded.recipe, loaded.catalogue, known, names)] == ["R205"]
    assert check_data(loaded.recipe, loaded.catalogue, known, names, resumed=True) == ()
    with pretrained.architecture_only():
        assert built("./gone.pth")[1] == []


def test_a_run_says_what_was_loaded(theirs: dict[str, Tensor]) -> None:
    from trainer.experiment.experiment import Experiment

    torch.save(theirs, "good.pth")
    small = "{type: Shapes, image_size: 64, train_size: 20, val_size: 20, test_size: 20}"
    Path("recipe.yaml").write_text(
        RECIPE.replace("WEIGHTS", "good.pth").replace("{type: Shapes, image_size: 64}", small)
    )
    loaded = load_recipe("recipe.yaml")
    assert loaded.recipe is not None
    assert loaded.catalogue is not None
    lines: list[str] = []
    Experiment.from_recipe(loaded.recipe, loaded.catalogue, log=lines.append)
    assert any(line.startswith("weights from good.pth: 50 of 52 tensors; the last layer starts anew") for line in lines)


# ---------------------------------------------------------------------------------------------------------- fetching
def cached(name: str) -> Path:
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    return Path("torch/hub/checkpoints", url.rpartition("/")[2])


def test_weights_by_name_come_from_torch_hubs_cache(theirs: dict[str, Tensor]) -> None:
    cached(NAME).parent.mkdir(parents=True)
    torch.save(theirs, cached(NAME))
    model, (line,) = built("DEFAULT")
    assert_all_but_head(model, theirs)
    assert line.startswith(f"weights from {Path.cwd() / cached(NAME)}: 50 of 52 tensors")


def test_a_damaged_or_malicious_file_in_the_cache_is_named_and_runs_nothing() -> None:
    cached(NAME).parent.mkdir(parents=True)
    cached(NAME).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError) as caught:
        built("DEFAULT")
    assert str(cached(NAME)) in caught.value.message
    assert caught.value.hint == "remove that file, and it is fetched again"
    assert not Path("canary").exists()


def test_a_download_that_cannot_happen_says_what_to_fetch_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()

    def look_up(*_: object, **__: object) -> None:  # a name that nobody answers for
        forever.wait()
        raise OSError

    monkeypatch.setattr(pretrained, "_ANSWER", 0.05)
    monkeypatch.setattr(pretrained, "_PATIENCE", 0.1)
    monkeypatch.setattr(socket, "create_connection", look_up)
    with pytest.raises(DataError) as caught:
        built("IMAGENET1K_V1")
    forever.set()
    assert "download.pytorch.org cannot be reached: no answer" in caught.value.message
    url = torchvision.models.get_model_weights(NAME).DEFAULT.url
    assert caught.value.hint.startswith(f"put {url} into {cached(NAME).parent.absolute()}/, or anywhere and write ")
    assert "model.weights: PATH" in caught.value.hint


@pytest.fixture
def served() -> Iterator[Callable[[bytes, int], str]]:
    """Serve some bytes of a file whose header promises more or less of them; returns where."""
    made: list[HTTPServer] = []
    done = threading.Event()

    def serve(content: bytes, promised: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(promised))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
                if promised > len(content):
                    done.wait(5)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        made.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    done.set()
    for server in made:
        server.shutdown()
        server.server_close()


def test_a_download_is_whole_or_leaves_nothing(served: Callable[[bytes, int], str], monkeypatch) -> None:
    monkeypatch.setattr(pretrained, "_STALLED", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    good = "2cf24dba"  # the first digits of the SHA-256 of "hello"
    pretrained.fetch(f"{served(b'hello', 5)}/net-{good}.pth", Path("hub/net.pth"))
    assert Path("hub/net.pth").read_bytes() == b"hello"
    with pytest.raises(OSError, match="invalid hash value"):
        pretrained.fetch(f"{served(b'hell!', 5)}/net-{good}.pth", Path(f"hub/net-{good}.pth"))
    with pytest.raises(OSError, match="timed out"):
        pretrained.fetch(f"{served(b'hel', 5)}/net-{good}.pth", Path(f"hub/net-{good}.pth"))
    assert [each.name for each in Path("hub").iterdir()] == ["net.pth"]
    assert socket.getdefaulttimeout() is None


def test_a_proxy_is_asked_in_the_place_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    class Answer:
        def close(self) -> None:
            pass

    def connect(address: tuple[str, int], timeout: float) -> Answer:
        asked.append(address)
        return Answer()

    monkeypatch.setattr(socket, "create_connection", connect)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    pretrained.reach("https://download.pytorch.org/models/a.pth")
    monkeypatch.setenv("https_proxy", "http://proxy.lab:3128")
    pretrained.reach("https://download.pytorch.org/models/a.pth")
    monkeypatch.setenv("no_proxy", "download.pytorch.org")
    pretrained.reach("https://download.pytorch.org/models/a.pth")
    assert asked == [("download.pytorch.org", 443), ("proxy.lab", 3128), ("download.pytorch.org", 443)]
