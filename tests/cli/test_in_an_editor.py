"""The schema in a real editor's language server: completion, hover texts and what is flagged, in a recipe."""

import json
import os
import shutil
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from trainer.cli.main import main

ROOT = Path(__file__).parents[2]
SETTINGS = {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}}


class LanguageServer:
    """What an editor says to `yaml-language-server`, and is told: JSON-RPC on its standard streams."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen([program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.asked, self.numbers = 0, count()
        self.ask("initialize", processId=os.getpid(), rootUri=None, capabilities={})
        self.tell("initialized")

    def close(self) -> None:
        self.ask("shutdown")
        self.tell("exit")
        self.process.communicate(timeout=20)

    def tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, **params: Any) -> Any:
        self.asked += 1
        self._send({"id": self.asked, "method": method, "params": params})
        while True:
            message = self._next()
            if message.get("id") == self.asked and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def problems(self, uri: str) -> list[str]:
        """Wait for what it finds in the file that was opened last."""
        while True:
            message = self._next()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri:
                return [each["message"] for each in message["params"]["diagnostics"]]

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def _next(self) -> dict[str, Any]:
        """Return the next message; a question about the editor's settings is answered on the way."""
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        message = json.loads(self.process.stdout.read(length))
        if "id" in message and "method" in message:
            wanted = message["params"].get("items", []) if message["method"] == "workspace/configuration" else []
            answer = [SETTINGS if item["section"] == "yaml" else {} for item in wanted]
            self._send({"id": message["id"], "result": answer or None})
        return message


@pytest.fixture(scope="module")
def server():
    program = shutil.which("yaml-language-server")
    if program is None or shutil.which("node") is None:
        pytest.skip("no yaml-language-server here; npm's package is named so")
    made = LanguageServer(program)
    yield made
    made.close()


class Editor:
    """A recipe, open in an editor: the text of a file with a few changes, beside it under a name not yet saved."""

    def __init__(self, server: LanguageServer, path: Path, *changes: tuple[str, str]) -> None:
        self.server, self.uri = server, path.with_name(f"unsaved-{next(server.numbers)}.yaml").as_uri()
        self.text = path.read_text(encoding="utf-8")
        for before, after in changes:
            assert self.text.count(before) == 1
            self.text = self.text.replace(before, after)
        document = {"uri": self.uri, "languageId": "yaml", "version": 1, "text": self.text}
        server.tell("textDocument/didOpen", textDocument=document)
        self.problems = server.problems(self.uri)

    def completed(self, after: str) -> dict[str, str]:
        """Return what is offered behind a piece of the text -> its text of explanation."""
        found = self._asked("completion", self.text.index(after) + len(after))["items"]
        return {each["label"]: _said(each.get("documentation", "")) for each in found}

    def hovered(self, word: str) -> str:
        return _said(self._asked("hover", self.text.index(word))["contents"])

    def _asked(self, what: str, offset: int) -> Any:
        before = self.text[:offset].split("\n")
        place = {"line": len(before) - 1, "character": len(before[-1])}
        return self.server.ask(f"textDocument/{what}", textDocument={"uri": self.uri}, position=place)


def _said(text: str | dict[str, str]) -> str:
    return text if isinstance(text, str) else text["value"]


@pytest.fixture(params=["a fresh clone", "after new"])
def recipe(request, tmp_path, monkeypatch) -> Path:
    """The quickstart, as it lies in the repository and as `new` writes it into an empty folder."""
    if request.param == "a fresh clone":
        return ROOT / "recipes" / "quickstart.yaml"
    monkeypatch.chdir(tmp_path)
    assert main(["new", "quickstart"]) == 0
    return tmp_path / "quickstart.yaml"


@pytest.fixture
def opened(server, recipe):
    return lambda *changes: Editor(server, recipe, *changes)


def test_a_recipe_without_mistakes_has_nothing_flagged(opened):
    assert opened().problems == []


def test_a_misspelt_argument_is_flagged(opened):
    assert opened(("momentum: 0.9", "momentun: 0.9")).problems == ["Property momentun is not allowed."]


def test_a_components_own_arguments_are_completed_with_what_they_mean(opened):
    offered = opened(("{type: SGD, lr: $lr_finder.lr, momentum: 0.9", "{type: SGD, lr: 0.1, mo")).completed(
        "lr: 0.1, mo"
    )
    assert offered["momentum"] == "momentum factor"
    assert "weight_decay" not in offered, "it is there already"
    assert "betas" not in offered, "it is another optimizer's"


def test_the_names_of_components_are_completed(opened):
    offered = opened(("model: SmallCNN", "model: Sma")).completed("model: Sma")
    assert {"SmallCNN", "cifar_resnet18", "resnet50"} <= offered.keys()


def test_the_values_of_a_closed_list_are_completed(opened):
    offered = opened(("step: {each: step}", "step: {each: s}")).completed("step: {each: s")
    assert {"step", "epoch"} <= offered.keys()


def test_an_argument_is_explained_where_the_pointer_rests(opened):
    editor = opened()
    assert "weight decay (L2 penalty)" in editor.hovered("weight_decay")
    assert "momentum factor" in editor.hovered("momentum")
