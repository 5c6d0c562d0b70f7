"""Every table on the page of results has a JSON that tells how and on what it was made."""

import json
import re
from datetime import date
from pathlib import Path

import pytest
from shared.result_tables import data_digest

ROOT = Path(__file__).resolve().parents[2]
TABLES = re.findall(
    r"^<!-- (\w+)-table -->$", (ROOT / "docs" / "results.md").read_text("utf-8"), re.M
)


def told(name: str) -> dict:
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_command_date_machine_and_data(name: str) -> None:
    found = told({"bearing": "bearing_synthetic", "compare": "compare_speech"}.get(name, name))
    script = re.match(r"python (benchmarks/\w+\.py)", found["command"])
    assert script and (ROOT / script[1]).is_file()
    assert date.fromisoformat(found["date"]).year >= 2026
    assert found["machine"]
    parts = [found] if "data" in found else list(found["sets"].values())
    for part in parts:
        assert re.fullmatch(r"[0-9a-f]{64}", part["data"]["sha256"])


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_what_writes_results_of_data_tells_which(script: Path) -> None:
    source = script.read_text(encoding="utf-8")
    if "write_results(" in source and '"--data"' in source:
        # What the command `evaluate` tells has a digest of its own.
        assert "data_digest(" in source or '"summary.json"' in source


def test_a_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    first = data_digest(tmp_path)
    assert first["files"] == 2 and data_digest(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "c")
    assert data_digest(tmp_path)["sha256"] != first["sha256"]
    (tmp_path / "c").rename(tmp_path / "a")
    (tmp_path / "b").write_text("a")
    assert data_digest(tmp_path)["sha256"] != first["sha256"]
    # With a manifest, what it doesn't list doesn't count.
    (tmp_path / "manifest.csv").write_text("path,split\na,train\n")
    listed = data_digest(tmp_path)
    (tmp_path / "b").write_text("other")
    assert data_digest(tmp_path) == listed and listed["files"] == 2
    assert data_digest(tmp_path / "a") != data_digest(tmp_path / "b")
