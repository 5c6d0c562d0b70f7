"""Pages of the documentation that are made of the repository, so that they can't go stale.

MkDocs calls `on_config` and `on_files`: the docstrings of recipes and benchmarks, the comments at
the top of the experiments, and the cards of the shipped models become pages; `>>>` in any docstring
becomes a block of code.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "signal_diffusion" / "models"
#: Recipes by the beginning of their names; what has none of them comes last.
KINDS = {
    "evaluate_": "Scores of the shipped models",
    "benchmark_": "Speed and memory",
    "": "Limits, rivals and pictures",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the models' cards into the navigation, and doctests into blocks of code."""
    for entry in config.nav or []:
        if "Models" in entry:
            entry["Models"] = [f"models/{card.name}" for card in cards()]
    config.markdown_extensions.append(Doctests())
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """The Markdown of all pages that are made, by name."""
    made = {f"models/{card.name}": card.read_text(encoding="utf-8") for card in cards()}
    return {"recipes.md": recipes(), "experiments.md": experiments(), **made}


def cards() -> list[Path]:
    """The models' cards, and then the credits."""
    return sorted(CARDS.glob("*.md"), key=lambda card: (card.stem.isupper(), card.name))


def scripts() -> list[Path]:
    """The recipes and benchmarks that can be run."""
    found = [*ROOT.glob("recipes/*.py"), *ROOT.glob("benchmarks/*.py")]
    runs = (path for path in found if "__main__" in path.read_text(encoding="utf-8"))
    return sorted(runs, key=lambda path: path.stem)


def recipes() -> str:
    """All recipes by kind, with their docstrings and tables."""
    parts = ["# Benchmarks and recipes", RECIPES]
    for kind, found in by_kind(scripts()):
        parts += [f"## {kind}", *map(recipe, found)]
    return "\n\n".join(parts)


def by_kind(paths: list[Path]) -> Iterator[tuple[str, list[Path]]]:
    """Headings with their recipes, in the order of `KINDS`."""
    for start, kind in KINDS.items():
        others = [other for other in KINDS if other and other != start]
        yield (
            kind,
            [p for p in paths if p.stem.startswith(start) and not p.stem.startswith(tuple(others))],
        )


def recipe(path: Path) -> str:
    """A section on one script: its docstring, and links to the tables that it writes."""
    source = path.read_text(encoding="utf-8")
    description = ast.get_docstring(ast.parse(source)) or ""
    links = ", ".join(f"[{heading}](results.md#{anchor})" for heading, anchor in tables_of(source))
    return "\n\n".join([f"### {path.stem}", description, *([f"Tables: {links}."] if links else [])])


def tables_of(source: str) -> list[tuple[str, str]]:
    """Heading and anchor of each section of the results that holds a table of a script."""
    names = re.findall(r"insert_table\(\s*[\w.]+,\s*\"(\w+)\"", source)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    headings = [_heading_above(page, name) for name in dict.fromkeys(names)]
    return [(heading, heading.lower().replace(" ", "-")) for heading in headings if heading]


def _heading_above(page: str, name: str) -> str:
    before, found, _ = page.partition(f"<!-- {name}-table -->")
    return re.findall(r"^##+ (.+)$", before, flags=re.MULTILINE)[-1] if found else ""


def experiments() -> str:
    """All experiments: the comments at their top, and their settings."""
    paths = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    return "\n\n".join(["# Experiments", EXPERIMENTS, *map(experiment, paths)])


def experiment(path: Path) -> str:
    """A section on one experiment."""
    text = path.read_text(encoding="utf-8")
    settings = textwrap.indent(f"```yaml\n{text.strip()}\n```", "    ")
    told = "\n\n".join(filter(None, [prose(header(text)), figures(path.stem)]))
    return f'## {path.stem}\n\n{told}\n\n??? note "{path.relative_to(ROOT)}"\n\n{settings}'


def figures(name: str) -> str:
    """Where an experiment's figures are: the cards and recipes that name it."""
    named = re.compile(rf"experiment={name}\b")
    places = [
        (f"model `{card.stem}`", f"models/{card.name}")
        for card in cards()
        if named.search(card.read_text(encoding="utf-8"))
    ]
    places += [
        (f"`{path.stem}`", f"recipes.md#{path.stem}")
        for path in scripts()
        if named.search(path.read_text(encoding="utf-8"))
    ]
    links = ", ".join(f"[{word}]({place})" for word, place in places)
    return f"Figures: {links}." if links else ""


def header(text: str) -> list[str]:
    """The lines of the comment at a configuration's top, without what Hydra reads."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line[1:].removeprefix(" "))
    return lines


def prose(lines: list[str]) -> str:
    """Lines as Markdown: those that are set in are commands."""
    groups = groupby(lines, key=lambda line: line.startswith("  "))
    return "\n\n".join(
        f"```bash\n{textwrap.dedent(part)}\n```" if set_in else part
        for set_in, part in ((set_in, "\n".join(group)) for set_in, group in groups)
    )


class Doctests(Extension):
    """Blocks that begin with `>>>` are code, not quotations of quotations."""

    def extendMarkdown(self, md: Markdown) -> None:
        # After the ends of lines are made equal (30), before blocks of code are found (25).
        md.preprocessors.register(_Fences(md), "doctests", 28)


class _Fences(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return fenced("\n".join(lines)).split("\n")


def fenced(text: str) -> str:
    """A text whose doctests, up to the next empty line, are blocks of code.

    >>> fenced("So:\\n\\n>>> 1 + 1\\n2\\n")
    'So:\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n'
    """
    return re.sub(
        r"(?:\A|(?<=\n\n))>>> (?:.+\n?)+",
        lambda found: f"```pycon\n{found[0].rstrip()}\n```\n",
        text,
    )


RECIPES = """\
Scripts that reproduce one result each. They are in `recipes/` and `benchmarks/` of a clone, and
`DATA` stands for a folder of recordings with a `manifest.csv`. Each section is the description at
the top of the script: its command, the time that it takes and the score to expect. The tables are
in [Results](results.md)."""

EXPERIMENTS = """\
Trainings that are configured: `signal-diffusion train experiment=NAME`. `DATA` and `FOLDER` stand
for your own folders. Every setting below can be changed on the command line; see
[Train and run recipes](train.md)."""
