"""Clips are sent under names that tell nothing, whole or in parts."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest


@pytest.fixture
def clip(state: Any) -> tuple[str, bytes]:
    """Address and content of one clip."""
    content: bytes = state.media.clips["roll-0-0"].path.read_bytes()
    return state.media.url("roll-0-0", 0), content


def test_a_clip_is_sent_whole(labeler: Any, clip: tuple[str, bytes]) -> None:
    url, content = clip
    answer = labeler.get(url)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    head = labeler.head(url)
    assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", len(content))


def test_only_signed_in_people_get_clips(visitor: Any, clip: tuple[str, bytes]) -> None:
    assert visitor.get(clip[0]).status_code == visitor.head(clip[0]).status_code == 401


def test_parts_of_a_clip(labeler: Any, clip: tuple[str, bytes]) -> None:
    url, content = clip
    size = len(content)
    for wanted, start, stop in (("0-0", 0, 1), ("5-9", 5, 10), (f"{size - 3}-", size - 3, size), ("-4", size - 4, size),
                                ("0-999999999", 0, size), ("-999999999", 0, size)):  # fmt: skip
        answer = labeler.get(url, headers={"Range": f"bytes={wanted}"})
        assert (answer.status_code, answer.content) == (206, content[start:stop])
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert labeler.head(url, headers={"Range": f"bytes={wanted}"}).status_code == 206
    several = labeler.get(url, headers={"Range": "bytes=0-1,8-9"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")


def test_a_part_beyond_the_end_is_416(labeler: Any, clip: tuple[str, bytes]) -> None:
    url, content = clip
    for wanted in (f"{len(content)}-", "999999999-", f"0-1,{len(content)}-"):
        answer = labeler.get(url, headers={"Range": f"bytes={wanted}"})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize(
    "wanted", ["bytes", "bytes=", "bytes=x-y", "rows=0-1", "bytes=5-2", "bytes=--1", "\u00b2", "bytes=0-,"]
)
def test_a_part_that_makes_no_sense_is_harmless(labeler: Any, clip: tuple[str, bytes], wanted: str) -> None:
    assert labeler.get(clip[0], headers={b"range": wanted.encode("latin-1")}).status_code in (200, 206, 400, 416)


def test_many_parts_are_not_worth_more_than_the_whole(labeler: Any, clip: tuple[str, bytes]) -> None:
    url, content = clip
    answer = labeler.get(url, headers={"Range": "bytes=" + ",".join(["0-"] * 90)})
    assert len(answer.content) <= 2 * len(content)
    assert labeler.get(url, headers={"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(5000))}).content == content


INVENTED = [
    *("x", "../roll-0-0", "..%2f..%2fmetadata", "%2e%2e%2fvideos%2froll-0-0", "roll-0-0", "/etc/passwd", "a" * 60, "a" * 300),
    *("%00", "' OR 1=1 --", "....//....//etc/passwd", "videos/roll-0-0", "C:\\x", "\u202e"),
]


@pytest.mark.parametrize("name", INVENTED)
def test_invented_names_are_404(labeler: Any, name: str) -> None:
    for path in (f"/media/{name}.mp4", f"/media/{name}"):
        assert labeler.get(path).status_code in (404, 422)


def test_a_name_in_other_letters_is_404(labeler: Any, clip: tuple[str, bytes]) -> None:
    assert labeler.get(clip[0].swapcase().replace("/MEDIA/", "/media/").replace(".MP4", ".mp4")).status_code == 404
    assert labeler.get(clip[0].replace(".mp4", "")).status_code == 404


def test_headers_tell_neither_file_nor_age(labeler: Any, state: Any) -> None:
    for clip in state.media.clips.values():
        headers = labeler.get(state.media.url(clip.rollout_id, 0)).headers
        assert headers["last-modified"] == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert "content-disposition" not in headers
        told = str(dict(headers))
        for secret in (clip.rollout_id, clip.sha256, clip.path.name, hashlib.md5(clip.path.read_bytes()).hexdigest()):
            assert secret not in told


def test_a_clip_shown_twice_has_two_addresses(labeler: Any, state: Any) -> None:
    left, right = (labeler.get(state.media.url("roll-0-0", place)) for place in (0, 1))
    assert left.url != right.url and left.headers["etag"] != right.headers["etag"]
    assert left.content == right.content


def test_names_depend_on_the_secret_and_on_nothing_that_changes(state: Any) -> None:
    from ui.web.media import Media

    names = {(name, place): state.media.url(name, place) for name in state.media.clips for place in range(4)}
    assert len(set(names.values())) == 36
    assert all(re.fullmatch(r"/media/[\w-]{24}\.mp4", url) for url in names.values())
    again, other = Media(state.media.folder, state.campaign.secret()), Media(state.media.folder, b"x" * 32)
    assert {key: again.url(*key) for key in names} == names
    assert not set(names.values()) & {other.url(*key) for key in names}


def test_a_file_that_has_gone_is_404(
    rollouts: Any, tmp_path: Any, labeler: Any, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from align.errors import DataError
    from align.video.folder import load_clip_folder
    from ui.web.media import Media

    shutil.copytree(rollouts, tmp_path / "rollouts")
    media = Media(load_clip_folder(tmp_path / "rollouts"), b"x" * 32)
    url = media.url("roll-1-1", 0)
    next((tmp_path / "rollouts" / "videos").glob("roll-1-1*")).unlink()
    monkeypatch.setattr(app.state, "gptsim", type(app.state.gptsim)(**{**vars(app.state.gptsim), "media": media}))
    assert labeler.get(url).status_code == 404
    with pytest.raises(DataError, match="lacks 1 of its video files, the first is roll-1-1"):
        Media(load_clip_folder(tmp_path / "rollouts"), b"x" * 32)
