"""Many files: which go where, what becomes of them, and what the report and a second run tell."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import network

from signal_diffusion import cli
from signal_diffusion.audio import Recording, read, write
from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic
from signal_diffusion.tasks.denoise_files import FileReport
from signal_diffusion.tasks.inputs import counted
from signal_diffusion.tasks.jobs import Job, plan
from signal_diffusion.tasks.workers import Outcome, run_jobs

Command = Callable[..., tuple[int, str, str]]

REPORT = FileReport(
    path="",
    output="",
    sample_rate=16000,
    channels=1,
    seconds=1.0,
    level_in_db=-20.0,
    level_out_db=-21.0,
    estimated_snr_db=10.0,
    processing_seconds=0.1,
    real_time_factor=0.1,
    note=None,
)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `denoise` in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["denoise", *map(str, arguments)])
        return stopped.value.code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "identity.safetensors"
    network().save_pretrained(path)
    return path


def touched(root: Path, *names: str) -> Path:
    """Empty files below a folder, which is made."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(jobs: list[Job], source: Path, target: Path) -> dict[str, str]:
    """Sources and targets of jobs, below two folders."""
    return {
        job.source.relative_to(source).as_posix(): job.target.relative_to(target).as_posix()
        for job in jobs
    }


TREE = ("a.wav", "b/c.FLAC", "b/d/e.mp3", "b/sphere.sph", "notes.txt", ".f.wav", ".g/h.wav")
KEPT = {"a.wav": "a.wav", "b/c.FLAC": "b/c.FLAC", "b/d/e.mp3": "b/d/e.mp3"}


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.*", "/**/[a-z]*"])
def test_a_folder_or_a_pattern_keeps_its_tree(tmp_path: Path, pattern: str) -> None:
    source, target = touched(tmp_path / "in", *TREE, "out/old.wav"), tmp_path / "in" / "out"
    jobs = plan([f"{source}{pattern}"], str(target))
    assert names(jobs, source, target) == {**KEPT, "b/sphere.sph": "b/sphere.wav"}
    assert [job.source for job in jobs] == sorted(job.source for job in jobs)


def test_what_else_is_written_lies_as_the_sources_do(tmp_path: Path) -> None:
    source = touched(tmp_path / "in", "b/c.wav", "plots/old.wav")
    places = {"keep_noise": f"{tmp_path}/noise", "plot": f"{source}/plots", "uncertainty": "u"}
    (job,) = plan([str(source)], f"{tmp_path}/out", **places)
    assert job.outputs == [
        tmp_path / "out/b/c.wav",
        tmp_path / "noise/b/c.wav",
        source / "plots/b/c.png",
        Path("u/b/c.npz"),
    ]


def test_names_that_would_clash_keep_their_suffixes(tmp_path: Path) -> None:
    source = touched(tmp_path / "in", "a.wav", "a.flac", "c.nist", "c.wav", "d.sph")
    jobs = plan([str(source)], "out", plot="p", uncertainty="u")
    assert {job.source.name: [path.name for path in job.outputs] for job in jobs} == {
        "a.flac": ["a.flac", "a.flac.png", "a.flac.npz"],
        "a.wav": ["a.wav", "a.wav.png", "a.wav.npz"],
        "c.nist": ["c.nist.wav", "c.nist.png", "c.nist.npz"],
        "c.wav": ["c.wav", "c.wav.png", "c.wav.npz"],
        "d.sph": ["d.wav", "d.png", "d.npz"],
    }


def test_what_can_not_be_read_is_counted(tmp_path: Path) -> None:
    source = touched(tmp_path / "in", "a.wav", "b.m4a", "c/d.M4A", "c/e.wma", "notes.txt")
    (source / "gone.flac").symlink_to("nowhere.flac")
    for given in (source, f"{source}/**"):
        kinds: list[str] = []
        plan([str(given)], "out", left_out=kinds.append)
        assert counted(kinds) == "2 .m4a, 1 .wma, 1 link that leads nowhere"
    with pytest.raises(InputError, match=r"\.sph .*left out: 1 \.m4a, 1 \.wma"):
        plan([str(source / "c")], "out")


def test_links_to_folders_are_followed_but_never_round_in_circles(tmp_path: Path) -> None:
    source = touched(tmp_path / "in", "a.wav", "b/c.wav")
    touched(tmp_path / "other", "d.wav")
    (source / "other").symlink_to(tmp_path / "other")
    (source / "b/up").symlink_to(source)
    (tmp_path / "other/back").symlink_to(source / "b")
    targets = names(plan([str(source)], str(tmp_path / "out")), source, tmp_path / "out").values()
    assert set(targets) == {"a.wav", "b/c.wav", "other/d.wav", "other/back/c.wav"}


def test_several_inputs_keep_their_names(tmp_path: Path) -> None:
    touched(tmp_path, "monday/a.wav", "tuesday/a.wav", "b.wav")
    given = [str(tmp_path / name) for name in ("monday", "tuesday", "b.wav")]
    targets = names(plan(given, str(tmp_path / "out")), tmp_path, tmp_path / "out")
    assert targets == {name: name for name in ("monday/a.wav", "tuesday/a.wav", "b.wav")}


def test_one_file_goes_to_a_file_unless_a_folder_is_named(tmp_path: Path) -> None:
    touched(tmp_path, "a.wav", "there/x", "[b].wav")
    for output, target in {"c.wav": "c.wav", "there": "there/a.wav", "new/": "new/a.wav"}.items():
        (job,) = plan([f"{tmp_path}/a.wav"], f"{tmp_path}/{output}")
        assert job.target == tmp_path / target
    (job,) = plan([f"{tmp_path}/[b].wav"], f"{tmp_path}/c.wav")
    assert job.source.name == "[b].wav"


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["x/a.wav", "y/a.wav"], "out", r"two outputs of .*x/a.wav and .*y/a.wav"),
        (["x/a.wav", "x/a.wav"], "out", "two outputs of"),
        (["x"], "x", "is the input itself"),
        (["x/*.wav"], "x", "is the input itself"),
        (["x/a.wav", "y/b.wav"], "x", "is the input itself"),
        (["x/a.wav", "z/c/a.wav"], "z/c", "is another input"),
        (["z"], "out", "holds no recordings"),
        (["x/*.flac"], "out", "holds no recordings"),
        (["x/a.wav", "x/none.wav"], "out", "no such file"),
    ],
)
def test_plans_that_would_lose_something(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    output: str,
    message: str,
) -> None:
    monkeypatch.chdir(touched(tmp_path, "x/a.wav", "y/a.wav", "y/b.wav"))
    if "z" in inputs[-1]:
        touched(tmp_path, "z/notes.txt" if inputs == ["z"] else "z/c/a.wav")
    with pytest.raises(InputError, match=message):
        plan(inputs, output)


def jobs_of(folder: Path, count: int) -> list[Job]:
    return [Job(folder / f"{n}.wav", folder / "out" / f"{n}.wav") for n in range(count)]


def test_what_fails_stops_nothing_else(tmp_path: Path) -> None:
    def work(job: Job, _: object) -> FileReport:
        if job.source.stem == "1":
            raise InputError("1.wav is empty")
        if job.source.stem == "2":
            raise RuntimeError("the disk is on fire")
        return replace(REPORT, path=str(job.source))

    heard: list[Path] = []
    jobs = jobs_of(tmp_path, 5)
    outcome = run_jobs(jobs, work, workers=2, finished=lambda job, _: heard.append(job.source))
    assert {Path(report.path).stem for report in outcome.reports} == {"0", "3", "4"}
    failed = {job.source.stem: type(error) for job, error in outcome.failed}
    assert failed == {"1": InputError, "2": RuntimeError}
    assert sorted(heard) == [job.source for job in jobs]


def test_workers_work_at_the_same_time(tmp_path: Path) -> None:
    """Three who wait for each other: two at a time would never come to an end."""
    meeting = threading.Barrier(3, timeout=30)

    def work(job: Job, progress: Callable[[int, int], None]) -> FileReport:
        meeting.wait()
        progress(1, 1)
        return REPORT

    told: list[tuple[int, int]] = []
    jobs = jobs_of(tmp_path, 6)
    outcome = run_jobs(
        jobs, work, workers=3, progress=lambda _, done, all_: told.append((done, all_))
    )
    assert (len(outcome.reports), outcome.failed, told) == (6, [], [(1, 1)] * 6)


def test_ctrl_c_gives_up_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    begun: list[str] = []
    given_up: list[str] = []
    running = threading.Event()

    def work(job: Job, progress: Callable[[int, int], None]) -> FileReport:
        begun.append(job.source.stem)
        if job.source.stem == "0":
            running.wait(30)
            return REPORT
        try:
            while True:
                progress(1, 2)
                running.set()
        finally:
            given_up.append(job.source.stem)

    def finished(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs_of(tmp_path, 20), work, workers=2, finished=finished)
    assert len(begun) <= 3
    assert set(given_up) == set(begun) - {"0"}


def test_no_job_is_no_trouble() -> None:
    assert run_jobs([], lambda *_: REPORT).reports == Outcome().reports


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four recordings, one of them broken."""
    generator = np.random.default_rng(3)
    root = touched(tmp_path / "in", "sub/bad.wav", "sub/notes.txt")
    for name, rate in {"a.wav": 16000, "sub/b.flac": 8000, "sub/c.wav": 44100}.items():
        samples = generator.uniform(-0.5, 0.5, (1, 4000)).astype(np.float32)
        write(root / name, Recording(samples, rate))
    return root


def rows(report: Path) -> dict[str, dict]:
    """The lines of a report by the names of their files."""
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    found = {Path(line["path"]).name: line for line in lines}
    assert len(found) == len(lines)
    return found


def content(root: Path) -> dict[str, bytes]:
    """What lies below a folder, but for the report."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.suffix != ".jsonl"}


def test_a_folder_is_denoised_as_its_files_are(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    for jobs, name in ((1, "one"), (2, "two")):
        out = tmp_path / name
        code, told, err = command(tree, "-o", out, "--model", model, "--jobs", jobs)
        assert code == 1
        assert err == f"failed: {tree}/sub/bad.wav is empty (0 bytes)\n"
        assert "3 files, 0.84 s of audio" in told
        assert f"1 failed, 0 skipped; report: {out / 'report.jsonl'}" in told
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert set(content(tmp_path / "one")) == {"a.wav", "sub/b.flac", "sub/c.wav"}
    assert command(tree / "sub/c.wav", "-o", tmp_path / "c.wav", "--model", model)[0] == 0
    assert (tmp_path / "c.wav").read_bytes() == (tmp_path / "one/sub/c.wav").read_bytes()


def test_the_report_has_a_line_for_each_file(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    command(tree, "-o", tmp_path / "out", "--model", model, "--report", tmp_path / "r.jsonl")
    found = rows(tmp_path / "r.jsonl")
    assert {name: row["error"] for name, row in found.items()} == {
        "a.wav": None,
        "b.flac": None,
        "c.wav": None,
        "bad.wav": f"{tree}/sub/bad.wav is empty (0 bytes)",
    }
    assert found["b.flac"]["output"] == f"{tmp_path}/out/sub/b.flac"
    assert (found["c.wav"]["sample_rate"], found["c.wav"]["seconds"]) == (44100, 4000 / 44100)
    assert found["a.wav"].keys() == found["bad.wav"].keys()


def test_a_second_run_resumes_or_replaces_and_never_mixes(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    out = tmp_path / "out"
    line = (tree, "-o", out, "--model", model)
    command(*line)
    whole = content(out)
    (out / "a.wav").write_bytes(b"mine")
    (out / "sub/b.flac").unlink()
    code, _, err = command(*line)
    assert (code, f"2 of 4 outputs exist, the first is {out}/a.wav" in err) == (2, True)
    assert "b.flac" not in os.listdir(out / "sub")
    with (out / "report.jsonl").open("a") as report:
        report.write('{"path": "cut sho')
    before = rows_but_the_last(out / "report.jsonl")
    (tree / "sub/bad.wav").write_bytes((tree / "a.wav").read_bytes())
    code, told, _ = command(*line, "--resume")
    assert (code, "0 failed, 2 skipped" in told) == (0, True)
    assert content(out) == {**whole, "a.wav": b"mine", "sub/bad.wav": whole["a.wav"]}
    after = rows(out / "report.jsonl")
    assert after["a.wav"] == before["a.wav"]
    assert after["bad.wav"]["error"] is None
    assert command(*line, "--force")[0] == 0
    assert content(out) == {**whole, "sub/bad.wav": whole["a.wav"]}
    assert rows(out / "report.jsonl").keys() == after.keys()


def test_a_second_run_makes_what_is_missing_beside_the_outputs(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    line = (tree / "sub/*.?l*", "-o", tmp_path / "out", "--model", model, "--resume")
    assert command(*line)[0] == 0
    code, told, _ = command(*line, "--keep-noise", tmp_path / "noise")
    assert (code, "1 file, " in told) == (0, True)
    assert set(content(tmp_path / "noise")) == {"b.flac"}
    assert "b.flac exists already: nothing" in command(*line, "--keep-noise", tmp_path / "noise")[1]


def test_lines_of_earlier_versions_stay_in_the_report(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    old = {"path": "elsewhere.wav", "snr_db": 3.0, "taken": 0.5, "error": None}
    (tmp_path / "out").mkdir()
    (tmp_path / "out/report.jsonl").write_text(json.dumps(old) + "\n")
    assert command(tree / "a.wav", tree / "sub/c.wav", "-o", tmp_path / "out", "--resume")[0] == 0
    lines = [json.loads(row) for row in (tmp_path / "out/report.jsonl").read_text().splitlines()]
    assert lines[0] == old
    assert lines[1]["processing_seconds"] > 0 and "estimated_snr_db" in lines[1]


def test_every_run_tidies_up_after_killed_ones(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    left = tmp_path / "out" / f".partial-{atomic.HOST}-{os.getpid()}-{'0' * 16}"
    touched(tmp_path, f"out/{left.name}")
    for source, target in ((tree / "a.wav", "out/a.wav"), (tree / "sub", "out/")):
        left.touch()
        command(source, "-o", f"{tmp_path}/{target}", "--model", model)
        assert not left.exists()


def test_the_report_knows_a_file_by_any_of_its_names(
    tmp_path: Path, tree: Path, model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("-o", tmp_path / "out", "--model", model, "--force")
    command(tree, *line)
    monkeypatch.chdir(tree)
    command(".", *line)
    assert len(rows(tmp_path / "out/report.jsonl")) == 4


def test_what_is_left_out_is_told(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    touched(tree, "x.m4a", "y.m4a")
    line = (tree, "-o", tmp_path / "out", "--model", model)
    for options in (("--dry-run",), ()):
        assert "left out, since they can't be read: 2 .m4a\n" in command(*line, *options)[1]


def test_a_dry_run_knows_what_holds_no_samples(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    write(tree / "none.wav", Recording(np.zeros((1, 0), np.float32), 8000))
    _, told, _ = command(tree, "-o", tmp_path / "out", "--model", model, "--dry-run")
    assert "none.wav: error: " in told
    assert "none.wav holds no samples" in told
    assert "3 files, 0.84 s" in told


def rows_but_the_last(report: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in report.read_text().splitlines()[:-1]]
    return {Path(line["path"]).name: line for line in lines}


def test_every_file_has_its_picture_noise_and_spread(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    pytest.importorskip("matplotlib")
    places = ("keep-noise", "plot", "uncertainty")
    options = [option for name in places for option in (f"--{name}", tmp_path / name)]
    line = (tree / "sub", "-o", tmp_path / "out", "--model", model, "--shots", 2, "--steps", 2)
    command(*line, *options)
    made = {name for part in places for name in content(tmp_path / part)}
    assert made == {"b.flac", "c.wav", "b.png", "c.png", "b.npz", "c.npz"}
    difference = read(tree / "sub/c.wav").samples - read(tmp_path / "out/c.wav").samples
    noise = read(tmp_path / "keep-noise/c.wav").samples
    np.testing.assert_allclose(noise, difference, atol=2 / 32768)


def test_a_dry_run_tells_all_and_writes_nothing(
    tmp_path: Path, tree: Path, model: Path, command: Command
) -> None:
    before = content(tmp_path)
    line = (tree, "-o", tmp_path / "out", "--model", model)
    code, told, err = command(*line, "--dry-run")
    assert (code, err) == (1, "")
    assert f"{tree}/sub/c.wav -> {tmp_path}/out/sub/c.wav: 44100 Hz, 1 channel, 0.09 s" in told
    assert "bad.wav is empty" in told
    assert "3 files, 0.84 s of audio, about" in told
    assert content(tmp_path) == before
    assert not (tmp_path / "out").exists()
    command(*line)
    assert "outputs exist" in command(*line, "--dry-run")[2]
    assert (
        "c.wav: 44100 Hz, 1 channel, 0.09 s; exists, skipped"
        in (command(*line, "--dry-run", "--resume")[1])
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "melody"), "no model 'melody'"),
        (("--steps", 0), "steps is 0"),
        (("--noise-std", 1), "starts at the recording"),
        (("-o", "{root}/a.wav"), "is a file: many recordings need a folder"),
        (("--report", "{root}/a.wav"), "is an input or an output"),
        (("--plot", "{root}/a.wav"), "is a file"),
    ],
)
def test_mistakes_that_would_be_made_many_times_are_made_once(
    tmp_path: Path, tree: Path, command: Command, options: tuple[object, ...], message: str
) -> None:
    before = content(tmp_path)
    given = [str(option).format(root=tree) for option in options]
    code, out, err = command(tree, "-o", tmp_path / "out", *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert content(tmp_path) == before
    assert not (tmp_path / "out").exists()
