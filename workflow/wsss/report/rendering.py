"""Templates of the report, with the filters for what HTML, LaTeX and Markdown would read as a command."""

from __future__ import annotations

import re
from html import escape

from jinja2 import Environment, PackageLoader, Template

from wsss.report.badges import badge
from wsss.report.judging import MARKS

CODE = re.compile(r"`([^`]*)`")
COMMANDS = {char: f"\\{char}" for char in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
SIGNS = {
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "−": "$-$",
    "≈": r"$\approx$",
    "†": r"$\dagger$",
    "α": r"$\alpha$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "…": r"\ldots{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"$\vert$",
}
LATEX = str.maketrans({**COMMANDS, **SIGNS})
MARKDOWN = str.maketrans({char: f"\\{char}" for char in "|*_"})


def template(name: str) -> Template:
    """Load a template of this package. Those of HTML escape what they print; the others have filters for that."""
    environment = Environment(
        loader=PackageLoader("wsss.report", "templates"),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"latex": latex, "html": html, "markdown": markdown}
    environment.filters |= {"badge": badge, "capital": capital, "mark": MARKS.get}
    return environment.get_template(name)


def latex(text: str) -> str:
    """Escape what LaTeX would read as a command, spell what it lacks, and set words in backticks as code."""
    return CODE.sub(r"\\texttt{\1}", text.translate(LATEX))


def html(text: str) -> str:
    """Escape what HTML would read as a tag, and set words in backticks as code."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def markdown(text: str) -> str:
    """Escape what would end a table cell or start emphasis. In code (words in backticks) only a bar needs it."""
    parts = CODE.split(text)  # plain text and code in turn
    found = [parts[0].translate(MARKDOWN)]
    for code, plain in zip(parts[1::2], parts[2::2], strict=True):
        whole = code.replace("|", r"\|")
        found.append(f"`{whole}`")
        found.append(plain.translate(MARKDOWN))
    return "".join(found)


def capital(text: str) -> str:
    """Begin a text with a capital letter, and leave the rest as it is."""
    return text[:1].upper() + text[1:]
