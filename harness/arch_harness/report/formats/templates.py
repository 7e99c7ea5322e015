"""The templates of the written formats, which stand in the folder `templates` of a package."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def template_environment(package: str = "arch_harness.report") -> Environment:
    """Where the templates are found and how they are read: a misspelt name is an error, and a tag leaves no line.

    What pages of other packages share is in the report's own folder. HTML is escaped; what is put into Markdown has a
    filter for that.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("arch_harness.report")]),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
