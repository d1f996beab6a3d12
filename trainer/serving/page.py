"""The page: a picture is dropped, pasted or taken, the answer stands below it. In the look of the reports.

Everything is in one file, as a report is, and the policy that goes with it lets nothing else run or load.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from registry.printing import counted_few, one_line
from trainer.report.html import style
from trainer.serving.limits import MB, Limits
from trainer.serving.served import Served

_TEMPLATES = Path(__file__).with_name("templates")
_NAMED = 12  # classes in the first sentence


@dataclass(frozen=True)
class Page:
    """The page of a server.

    Attributes:
        html: its text.
        policy: its Content-Security-Policy.
    """

    html: str
    policy: str

    @classmethod
    def of(cls, served: Served, limits: Limits, *, guarded: bool) -> Page:
        """Return the page for a network; `guarded` where those who ask need a token."""
        looks = style() + _asset("serve.css")
        acts = _asset("serve.js")
        templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        html = templates.get_template("serve.html").render(
            name=one_line(served.title),
            dated=one_line(served.which),
            count=f"{len(served.class_names):,}",
            some=counted_few([one_line(name) for name in served.class_names], most=_NAMED),
            below=served.network.sureness.abstain_below,
            explains=served.explains,
            guarded=guarded,
            bytes=limits.bytes,
            megabytes=limits.bytes // MB,
            megapixels=limits.pixels // MB,
            style=Markup(looks),
            script=Markup(acts),
        )
        return cls(
            html,
            f"default-src 'none'; style-src {_hash(looks)}; script-src {_hash(acts)}; img-src blob: data:; "
            "media-src blob: mediastream:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
        )


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
