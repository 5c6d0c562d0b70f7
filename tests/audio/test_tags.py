"""What a recording says of itself goes with it, and never costs a sample."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TIT2, TXXX
from mutagen.mp3 import MP3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from signal_diffusion.audio import Form, chunks, opened, read, stored_form, tags, writing

TEXTS = {
    "title": ["Dawn chorus, Käsemühle"],
    "artist": ["A. Blackbird", "B. Robin"],
    "album": ["Field"],
    "date": ["2024-05-06"],
    "genre": ["Nature"],
    "tracknumber": ["3/9"],
    "comment": ["wind from the west"],
    "copyright": ["2024 A."],
    "description": ["two microphones"],
    "site": ["hut 7"],
    "time_reference": ["6000000000"],
}
TAGGED = (".wav", ".rf64", ".flac", ".ogg", ".opus", ".mp3", ".aiff")


def sound(path: Path, channels: int = 2) -> Form:
    """An untagged recording under that name."""
    path, form, _ = stored_form(path, Form(48000, channels))
    with writing(path, form) as writer:
        writer.write(np.random.default_rng(1).uniform(-0.5, 0.5, (channels, 2401)))
    return form


def tagged(path: Path) -> Form:
    form = sound(path)
    picture = Picture()
    picture.type, picture.mime, picture.desc, picture.data = 3, "image/png", "hut", bytes(range(99))
    given = tags.Tags(Form(8000, 1, "RAW"), TEXTS, [picture])
    tags.write_tags(given, path, path, form)
    return form


def told(path: Path) -> tags.Tags:
    with opened(path) as reader:
        return tags.read_tags(path, reader.form)


def copied(source: Path, target: Path) -> Path:
    with opened(source) as reader:
        path, form, _ = stored_form(target, reader.form)
        with writing(path, form, like=source, force=True) as writer:
            for block in reader.blocks():
                writer.write(block)
    return path


@pytest.mark.parametrize("source", TAGGED)
@pytest.mark.parametrize("target", TAGGED)
def test_texts_pictures_and_start_survive(tmp_path: Path, source: str, target: str) -> None:
    tagged(tmp_path / f"a{source}")
    path = copied(tmp_path / f"a{source}", tmp_path / f"b{target}")
    after = told(path)
    assert after.fields == TEXTS
    assert [(p.data, p.mime, p.desc, p.type) for p in after.pictures] == [
        (bytes(range(99)), "image/png", "hut", 3)
    ]


@pytest.mark.parametrize("suffix", TAGGED)
def test_tags_cost_no_sample(tmp_path: Path, suffix: str) -> None:
    sound(tmp_path / f"plain{suffix}")
    tagged(tmp_path / f"a{suffix}")
    samples = read(tmp_path / f"plain{suffix}").samples
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}").samples, samples)


@pytest.mark.parametrize("suffix", (".wav", ".rf64", ".flac", ".aiff"))
@pytest.mark.parametrize("like", TAGGED)
def test_copied_tags_cost_no_sample(tmp_path: Path, suffix: str, like: str) -> None:
    form = sound(tmp_path / f"plain{suffix}")
    tagged(tmp_path / f"a{like}")
    samples = read(tmp_path / f"plain{suffix}").samples
    with writing(tmp_path / f"b{suffix}", form, like=tmp_path / f"a{like}") as writer:
        writer.write(samples)
    np.testing.assert_array_equal(read(tmp_path / f"b{suffix}").samples, samples)


def test_tags_are_where_other_programs_look(tmp_path: Path) -> None:
    tagged(tmp_path / "a.flac")
    for suffix, kind in ((".ogg", OggVorbis), (".opus", OggOpus), (".flac", FLAC)):
        file = kind(copied(tmp_path / "a.flac", tmp_path / f"b{suffix}"))
        assert file["title"] == TEXTS["title"]
    mp3 = MP3(copied(tmp_path / "a.flac", tmp_path / "b.mp3"))
    assert (mp3["TIT2"].text, mp3["TPE1"].text) == (TEXTS["title"], TEXTS["artist"])
    for suffix in (".wav", ".caf"):
        with soundfile.SoundFile(copied(tmp_path / "a.flac", tmp_path / f"b{suffix}")) as file:
            assert (file.title, file.date) == (TEXTS["title"][0], TEXTS["date"][0])


def test_an_id3_tag_keeps_its_version_and_its_odd_frames(tmp_path: Path) -> None:
    sound(tmp_path / "a.mp3")
    given = ID3()
    given.add(TIT2(encoding=1, text=["Käse"]))
    given.add(TXXX(encoding=1, desc="Odd = name", text=["x"]))
    given.add(APIC(encoding=1, mime="image/jpeg", type=4, desc="back", data=b"jpg"))
    given.save(tmp_path / "a.mp3", v2_version=3)
    kept = MP3(copied(tmp_path / "a.mp3", tmp_path / "b.mp3")).tags
    assert kept.version[:2] == (2, 3)
    assert (str(kept["TIT2"]), str(kept["TXXX:Odd = name"])) == ("Käse", "x")
    assert kept["APIC:back"].data == b"jpg"
    assert FLAC(copied(tmp_path / "a.mp3", tmp_path / "b.flac"))["title"] == ["Käse"]


def parts(path: Path) -> dict[bytes, bytes]:
    with path.open("rb") as file:
        return {
            chunk.name: chunks.content(path, chunk.name) or b"" for chunk in chunks.chunks(file)
        }


NOTES = {
    ".wav": {
        b"bext": chunks.broadcast_extension(1 << 40) + b"coding history\r\n",
        b"iXML": b"<BWFXML><SCENE>odd length</SCENE></BWFXML>"[:-1],
        b"cue ": struct.pack("<I", 0),
        b"LIST": b"INFOINAM" + struct.pack("<I", 4) + b"Hut\0",
        b"smpl": bytes(36),
    },
    ".aiff": {
        b"NAME": b"Hut",
        b"AUTH": b"A.",
        b"COMT": struct.pack(">H", 0),
        b"MARK": struct.pack(">HHI", 1, 1, 7) + b"\3top",
    },
}


@pytest.mark.parametrize(
    ("source", "target"),
    [(".wav", ".wav"), (".wav", ".rf64"), (".rf64", ".wav"), (".aiff", ".aiff"), (".aiff", ".aif")],
)
def test_chunks_that_are_not_sound_are_copied(tmp_path: Path, source: str, target: str) -> None:
    path = tmp_path / f"a{source}"
    sound(path, channels=1)
    notes = NOTES.get(source, NOTES[".wav"])
    for name, content in notes.items():
        chunks.append_chunk(path, name, content)
    after = copied(path, tmp_path / f"b{target}")
    found = parts(after)
    assert {name: found.get(name) for name in notes} == notes
    assert after.stat().st_size % 2 == 0
    np.testing.assert_array_equal(read(after).samples, read(path).samples)
    with after.open("rb") as file:
        head = file.read(28)
    size = head[20:28] if head[:4] == b"RF64" else head[4:8]
    order = "big" if head[:4] == b"FORM" else "little"
    assert int.from_bytes(size, order) == after.stat().st_size - 8


def test_a_stale_peak_chunk_is_not_copied(tmp_path: Path) -> None:
    path, form = tmp_path / "a.wav", Form(8000, 1, "WAV", "FLOAT")
    with writing(path, form) as writer:
        writer.write(np.full((1, 50), 0.25))
    with writing(tmp_path / "b.wav", form, like=path) as writer:
        writer.write(np.full((1, 50), 0.5))
    with (tmp_path / "b.wav").open("rb") as file:
        assert [chunk.name for chunk in chunks.chunks(file)].count(b"PEAK") == 1


def test_a_chunk_that_would_pass_4_gb_is_left_out() -> None:
    file = io.BytesIO(b"RIFF" + struct.pack("<I", 4) + b"WAVE")
    before = file.getvalue()
    chunks._append(file, b"bext", (1 << 32) - 12, iter([b"never written"]))
    assert file.getvalue() == before


@pytest.mark.parametrize("suffix", TAGGED)
def test_damaged_tags_cost_the_tags_at_most(tmp_path: Path, suffix: str) -> None:
    """Whatever is wrong with the recording that is copied from, the new one is whole."""
    source = tmp_path / f"a{suffix}"
    form = tagged(source)
    content, samples = source.read_bytes(), np.full((2, 999), 0.25)
    generator = np.random.default_rng(5)
    for trial in range(40):
        damaged = bytearray(content)
        for place in generator.integers(0, len(damaged), 1 + 40 * (trial % 3)):
            damaged[place] = int(generator.integers(256))
        source.write_bytes(damaged[: len(damaged) if trial % 4 else 1 + trial * 20])
        with writing(tmp_path / f"b{suffix}", form, like=source, force=True) as writer:
            writer.write(samples)
        assert read(tmp_path / f"b{suffix}").samples.shape == (2, 999)


def test_chunk_lists_of_any_bytes_end() -> None:
    generator = np.random.default_rng(2)
    for kind in (b"RIFF", b"RF64", b"FORM", b"RIFX", b"none"):
        for _ in range(100):
            size = int(generator.integers(0, 200))
            content = kind + bytes(8) + generator.bytes(size)
            found = list(chunks.chunks(io.BytesIO(content)))
            assert all(chunk.start + chunk.size <= len(content) for chunk in found)
