"""The rules of the house, see CONTRIBUTING.md; what imports what is in test_import_cost."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "signal_diffusion"
MODULES = sorted(PACKAGE.rglob("*.py"))
CODE = sorted(path for part in ("benchmarks", "recipes") for path in ROOT.glob(f"{part}/**/*.py"))
TESTS = sorted(ROOT.glob("tests/**/*.py"))

#: Adjectives: a file's last word must name a thing.
ADJECTIVES = {"external", "missing", "noisy", "synthetic"}
#: Files out of the usual size, with the reason.
SIZE = {
    "__main__": "the door of `python -m signal_diffusion`",
    "audio/files": "reading and writing share what a form of sound is",
    "errors": "the one error, which everything imports",
    "evaluation/benchmark": "the plan, the rows and the timing of one command",
    "noise": "one idea: noise by position",
    "samplers": "one update and the five samplers over it, side by side",
    "targets": "one table of training targets",
    "tasks/denoise_files": "the outputs of a recording are written together",
    "tasks/generate": "generation of arrays and of files",
    "training/objectives": "the objectives share one base",
}
#: Verbs and participles that say nothing of what a value is.
VAGUE = {"asked", "heard", "known", "lies", "said", "some", "tells", "told", "worded"}
#: What takes the words of a command line, or names of files, in tests.
WORDS = {"command", "piped", "run", "touched"}
#: Things that exist once, with their home.
ONCE = {
    "Array": "dsp/__init__.py",
    "Journal": "files/journal.py",
    "Progress": "samplers.py",
    "Row": "files/journal.py",
    "markdown_table": "evaluation/summary.py",
}


def pending(reason: str) -> pytest.MarkDecorator:
    """For a rule that does not hold yet: whoever makes it hold takes the mark away."""
    return pytest.mark.xfail(strict=True, reason=f"{reason}; if it holds, remove this mark")


def place(path: Path) -> str:
    return str(path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def folders() -> list[Path]:
    return sorted({path.parent for path in MODULES})


def test_folders_have_five_to_fifteen_files() -> None:
    """Five with `__init__`, and fifteen beside it."""
    counts = {folder: len([*folder.glob("*.py")]) for folder in folders()}
    odd = {place(folder / "x")[:-1]: n for folder, n in counts.items() if not 5 <= n <= 16}
    assert odd == {}


def test_folders_say_what_belongs_there_and_what_does_not() -> None:
    for folder in set(folders()) - {PACKAGE}:
        text = ast.get_docstring(tree(folder / "__init__.py")) or ""
        assert 2 <= len(text.splitlines()) <= 6, folder
        elsewhere = re.search(r"`[\w.]+`|\b(no|not|nothing)\b", text, re.IGNORECASE)
        assert elsewhere, f"{folder}: where is what does not belong there?"


@pending("more than 140 files, 23,000 lines")
def test_the_package_stays_small() -> None:
    assert len(MODULES) <= 140, f"{len(MODULES)} files"
    assert sum(map(lines, MODULES)) <= 23_000, f"{sum(map(lines, MODULES))} lines"


def test_files_are_of_a_size_to_read() -> None:
    """Of 60 to 350 lines, or there is a reason."""
    odd = {
        place(path).removesuffix(".py"): lines(path)
        for path in MODULES
        if path.name != "__init__.py" and not 60 <= lines(path) <= 350
    }
    assert {name: n for name, n in odd.items() if name not in SIZE} == {}


def test_no_base_name_occurs_twice() -> None:
    homes = defaultdict(list)
    for path in MODULES:
        homes[path.stem].append(place(path))
    homes.pop("__init__")
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_file_names_are_nouns() -> None:
    last = {place(path): path.stem.rpartition("_")[2] for path in MODULES}
    participle = re.compile(r"\w+(?<!e)ed$")
    assert [p for p, word in last.items() if participle.match(word) or word in ADJECTIVES] == []


def test_no_line_is_kept_from_the_formatter() -> None:
    marks = {
        place(path): len(re.findall("# fmt: (?:skip|off)", path.read_text(encoding="utf-8")))
        for path in [*MODULES, *CODE, *TESTS]
        if path != Path(__file__)
    }
    assert {name: count for name, count in marks.items() if count} == {}


def test_calls_have_at_most_five_positional_arguments() -> None:
    """Words of a command line, which the tests give one by one, are no arguments."""
    found = []
    for path in [*MODULES, *CODE, *TESTS]:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or len(node.args) <= 5:
                continue
            if path not in TESTS or ast.unparse(node.func) not in WORDS:
                found.append(f"{place(path)}:{node.lineno} {ast.unparse(node.func)}")
    assert found == []


def test_no_two_dataclasses_have_the_same_fields() -> None:
    """Of the same types, and three or more; two may coincide by chance."""
    homes = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and _is_record(node):
                fields = [
                    ast.unparse(s).partition("=")[0]
                    for s in node.body
                    if isinstance(s, ast.AnnAssign)
                ]
                homes[tuple(sorted(fields))].append(f"{place(path)}: {node.name}")
    twins = {fields: where for fields, where in homes.items() if len(where) > 1}
    assert {fields: where for fields, where in twins.items() if len(fields) > 2} == {}


def _is_record(node: ast.ClassDef) -> bool:
    words = [ast.unparse(part) for part in [*node.decorator_list, *node.bases]]
    return any(re.match(r"(dataclasses\.)?dataclass|NamedTuple|TypedDict", word) for word in words)


def test_what_is_shared_exists_once() -> None:
    homes = defaultdict(list)
    for path in MODULES:
        for node in tree(path).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            for target in targets:
                homes[getattr(target, "id", getattr(target, "name", ""))].append(place(path))
    assert {name: homes[name] for name in ONCE} == {name: [home] for name, home in ONCE.items()}


def test_files_are_replaced_by_one_writer() -> None:
    moves = r"\bos\.(replace|rename|link)\(|\bshutil\.move\(|\.rename\("
    found = {place(path) for path in MODULES if re.search(moves, path.read_text("utf-8"))}
    assert found == {"files/atomic.py"}


def test_names_say_what_a_value_is() -> None:
    found = defaultdict(set)
    for path in [*MODULES, *CODE]:
        for node in ast.walk(tree(path)):
            names = [getattr(node, part, None) for part in ("id", "attr", "name", "arg")]
            for name in names:
                if isinstance(name, str) and set(name.split("_")) & VAGUE:
                    found[place(path)].add(name)
    assert dict(found) == {}


def test_the_command_computes_nothing() -> None:
    """`cli` parses, reports progress and prints: it needs neither arrays nor networks."""
    heavy = {"numpy", "torch", "scipy", "pandas", "soundfile", "librosa", "lightning", "hydra"}
    found = set()
    for path in PACKAGE.glob("cli/*.py"):
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {f"{place(path)}: {n}" for n in names if n.split(".")[0] in heavy}
    assert found == set()


def test_what_only_benchmarks_use_lies_with_them() -> None:
    """A module is used by the package itself, by a configuration, or is public."""
    texts = {path: path.read_text(encoding="utf-8") for path in MODULES}
    named = "\n".join(path.read_text("utf-8") for path in ROOT.glob("conf/**/*.yaml"))
    unused = []
    for path in MODULES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.stem in ("__init__", "__main__"):
            continue
        dotted, (*home, name) = ".".join(parts), parts
        used = rf"\b{re.escape(dotted)}\b|from {re.escape('.'.join(home))} import [^\n]*\b{name}\b"
        used += rf"|from {re.escape('.'.join(home))} import \([^)]*\b{name}\b"
        others = [text for other, text in texts.items() if other != path]
        if not any(re.search(used, text) for text in [*others, named]):
            unused.append(dotted)
    assert unused == []
