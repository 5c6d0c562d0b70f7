"""Titles, pictures, start times: what a recording says of itself, carried to another file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
from mutagen import id3
from mutagen.flac import FLAC, Picture
from mutagen.id3 import ID3
from mutagen.mp3 import MP3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from signal_diffusion.audio import chunks
from signal_diffusion.audio.forms import Form, native

#: Containers made of chunks, by kind.
CHUNKED = {"WAV": "RIFF", "WAVEX": "RIFF", "RF64": "RIFF", "AIFF": "IFF"}
#: Containers into which libsndfile writes strings.
TEXTED = ("WAV", "WAVEX", "RF64", "CAF")
STRINGS = (
    *("title", "artist", "album", "date", "genre", "tracknumber", "comment", "copyright"),
    "license",
)
#: ID3 frames by the names of Vorbis comments; other names go to TXXX frames.
FRAMES = {
    "title": id3.TIT2,
    "artist": id3.TPE1,
    "album": id3.TALB,
    "albumartist": id3.TPE2,
    "composer": id3.TCOM,
    "date": id3.TDRC,
    "genre": id3.TCON,
    "tracknumber": id3.TRCK,
    "discnumber": id3.TPOS,
    "copyright": id3.TCOP,
    "isrc": id3.TSRC,
    "language": id3.TLAN,
    "organization": id3.TPUB,
    "bpm": id3.TBPM,
}
NAMES = {frame.__name__: name for name, frame in FRAMES.items()}
PICTURE, START = "metadata_block_picture", "time_reference"


@dataclass
class Tags:
    """What a recording says of itself.

    Attributes:
        form: of the recording.
        fields: texts by lower-case names of Vorbis comments. `time_reference` is its start, in
            samples since midnight.
        pictures: as FLAC stores them.
        id3: its ID3 tag, if it has one.
    """

    form: Form
    fields: dict[str, list[str]] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    id3: ID3 | None = None


def read_tags(path: Path, form: Form) -> Tags:
    """Read what a recording of that form says of itself.

    Raises:
        OSError, mutagen.MutagenError and others: the tags are damaged.
    """
    tags = Tags(form)
    if form.container in ("FLAC", "OGG"):
        _read_comments(tags, path)
    elif form.container == "MP3":
        tags.id3 = MP3(path).tags
    elif form.container in CHUNKED:
        _read_chunks(tags, path)
    if form.container in (*TEXTED, "AIFF"):
        _read_strings(tags, path)
    if tags.id3 is not None:
        tags.fields.update(_texts(tags.id3))
        tags.pictures = [_as_picture(f) for f in tags.id3.values() if f.FrameID == "APIC"]
    return tags


def set_strings(tags: Tags, file: soundfile.SoundFile) -> None:
    """Give texts to a file that libsndfile is about to write, if they go there by no other way."""
    if file.format in TEXTED and not _same_chunks(tags.form.container, file.format):
        for name in STRINGS:
            if name in tags.fields:
                setattr(file, name, "; ".join(tags.fields[name]))


def write_tags(tags: Tags, source: Path | None, target: Path, form: Form) -> None:
    """Give tags to a file of that form that libsndfile has written.

    Args:
        tags: of the source.
        source, target: the files; there may be no source where the tags are of no container.
        form: of the target.

    Raises:
        OSError, mutagen.MutagenError and others: the target can't take them.
    """
    if source is not None and _same_chunks(tags.form.container, form.container):
        chunks.copy_chunks(source, target)
    elif form.container in CHUNKED:
        _append_chunks(tags, target, form)
    elif form.container in ("FLAC", "OGG"):
        _write_comments(tags, target)
    elif form.container == "MP3" and (frames := _frames(tags)):
        frames.save(target, v2_version=_version(frames))


def _same_chunks(first: str, second: str) -> bool:
    return first in CHUNKED and CHUNKED[first] == CHUNKED.get(second)


def _comments(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"OggS"):
        return (OggOpus if b"OpusHead" in head else OggVorbis)(path)
    return FLAC(path)


def _read_comments(tags: Tags, path: Path) -> None:
    file = _comments(path)
    tags.fields = {} if file.tags is None else dict(file.tags.as_dict())
    tags.pictures = list(getattr(file, "pictures", ()))
    tags.fields.pop("encoder", None)
    for text in tags.fields.pop(PICTURE, ()):
        tags.pictures.append(Picture(base64.b64decode(text)))


def _read_chunks(tags: Tags, path: Path) -> None:
    bext = chunks.content(path, b"bext")
    start = None if bext is None else chunks.time_reference(bext)
    if start is not None:
        tags.fields[START] = [str(start)]
    content = chunks.content(path, b"id3 ", b"ID3 ")
    if content is not None:
        tags.id3 = ID3(io.BytesIO(content))


def _read_strings(tags: Tags, path: Path) -> None:
    with soundfile.SoundFile(native(path)) as file:
        for name in STRINGS:
            text = getattr(file, name)
            if text:
                tags.fields.setdefault(name, [text])


def _texts(frames: ID3) -> dict[str, list[str]]:
    """The texts of an ID3 tag by the names of Vorbis comments."""
    texts = {}
    for frame in frames.values():
        name = {"COMM": "comment", "TXXX": getattr(frame, "desc", "").lower()}.get(
            frame.FrameID, NAMES.get(frame.FrameID)
        )
        if name:
            texts[name] = [str(text) for text in frame.text]
    return texts


def _as_picture(frame: Any) -> Picture:
    picture = Picture()
    picture.type, picture.mime, picture.desc = frame.type, frame.mime, frame.desc
    picture.data = frame.data
    return picture


def _frames(tags: Tags) -> ID3:
    """The recording's own ID3 tag with all else that is known, or a new one."""
    frames = ID3() if tags.id3 is None else tags.id3
    own = _texts(frames)
    for name, texts in tags.fields.items():
        if name == "comment" and name not in own:
            frames.add(id3.COMM(encoding=3, lang="und", desc="", text=texts))
        elif name in FRAMES and name not in own:
            frames.add(FRAMES[name](encoding=3, text=texts))
        elif name not in own:
            frames.add(id3.TXXX(encoding=3, desc=name, text=texts))
    for number, given in enumerate(tags.pictures if tags.id3 is None else ()):
        # ID3 tells pictures apart by their descriptions.
        desc = given.desc if number == 0 else f"{given.desc} ({number + 1})"
        frames.add(
            id3.APIC(encoding=3, mime=given.mime, type=given.type, desc=desc, data=given.data)
        )
    return frames


def _version(frames: ID3) -> int:
    if frames.version[:2] != (2, 3):
        return 4
    frames.update_to_v23()
    return 3


def _write_comments(tags: Tags, target: Path) -> None:
    if not tags.fields and not tags.pictures:
        return
    file = _comments(target)
    if file.tags is None:
        file.add_tags()
    for name, texts in tags.fields.items():
        # Of ID3's free names, not all are allowed here.
        if name.isascii() and name.isprintable() and "=" not in name and name:
            file.tags[name.upper()] = texts
    for picture in tags.pictures:
        if isinstance(file, FLAC):
            file.add_picture(picture)
    if tags.pictures and not isinstance(file, FLAC):
        file.tags[PICTURE] = [base64.b64encode(p.write()).decode() for p in tags.pictures]
    file.save()


def _append_chunks(tags: Tags, target: Path, form: Form) -> None:
    start = tags.fields.get(START, [""])[0]
    riff = CHUNKED[form.container] == "RIFF"
    if riff and start.isdecimal() and int(start) < 1 << 64:
        chunks.append_chunk(target, b"bext", chunks.broadcast_extension(int(start)))
    if frames := _frames(tags):
        tag = io.BytesIO()
        frames.save(tag, v2_version=_version(frames))
        chunks.append_chunk(target, b"id3 " if riff else b"ID3 ", tag.getvalue())
