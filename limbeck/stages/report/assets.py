"""What every page of the report shares: its templates, its one script and its one style, each from several files.

Refuses to know what any page says.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from limbeck.stages.report.safe import content_security_policy
from limbeck.untrusted import visible

_HERE = Path(__file__).parent
_STYLES = ("page.css", "figures.css", "browser.css", "media.css")
_SCRIPTS = ("browser_choices.js", "browser_cards.js", "browser.js")


class Assets(NamedTuple):
    """The text of the page's script and style, and the policy that allows these and nothing else."""

    script: str
    style: str
    policy: str


@cache
def assets(*, scripted: bool = True) -> Assets:
    """The files of the page, joined; a page without a browser of replies has an empty script."""
    script = "".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS) if scripted else ""
    style = "".join((_HERE / name).read_text("utf-8") for name in _STYLES)
    return Assets(script, style, content_security_policy(script, style))


def filled(template: str, values: dict[str, Any]) -> str:
    """A template with values; whatever is no markup is made visible and escaped."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _visible(value: object) -> object:
    """What every `{{ }}` of the template passes through: text is made visible, then escaped; markup is left alone."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
