"""The one HTML page builder: one self-contained file, which neither loads anything nor runs what a map could hold."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from d2vpr_ros import __version__

_NO_NAN_AND_NO_SPACES = {"allow_nan": False, "separators": (",", ":")}


def write_page(path: Path, name: str, title: str, scripts: Sequence[str] = (), **values: object) -> None:
    """Write the page of the template `name`.html.j2 with the styles page.css and `name`.css, and these scripts.

    Every value is escaped for HTML. `{{ value | tojson }}` is safe inside a script element, too.
    The page's own policy forbids the browser to load anything, and to run or style by anything but these files.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number in a `tojson` value is not finite.
    """
    loader = PackageLoader("d2vpr_ros.evaluation", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = _NO_NAN_AND_NO_SPACES

    def text(file: str) -> str:
        return loader.get_source(environment, file)[0]

    style = text("page.css") + text(f"{name}.css")
    script = "".join(map(text, scripts))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_allowing(style)}; script-src {_allowing(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template(f"{name}.html.j2").render(
        title=title, policy=policy, style=Markup(style), script=Markup(script), version=__version__, **values
    )
    # A browser hashes text with plain line ends; a file name on disk may hold what is no Unicode.
    path.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def data_uri(jpeg: bytes | None) -> str:
    """A picture inside the page; empty where there is none."""
    return "" if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _allowing(text: str) -> str:
    """The source expression of Content Security Policy 3 that allows exactly this inline text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'" if text else "'none'"
