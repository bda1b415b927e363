"""Files of one JSON object are complete, readable by people, and bounded when read."""

from pathlib import Path

import pytest

from mvit_video.jobs.files import read_json_object, write_json_object


def test_an_object_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "one.json"
    write_json_object(file, {"a": [1, None], "b": {"ü": True}})
    assert file.read_text().splitlines()[0] == "{"
    assert read_json_object(file) == {"a": [1, None], "b": {"ü": True}}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_object(file, {"a": float("nan")})
    assert [path.name for path in file.parent.iterdir()] == ["one.json"]
    assert read_json_object(file)["a"] == [1, None]


def test_what_others_wrote_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text('{"a": NaN, "b": -Infinity}')
    assert read_json_object(file) == {"a": None, "b": None}
    with pytest.raises(ValueError, match="larger than 20 bytes"):
        read_json_object(file, max_bytes=20)
    with pytest.raises(FileNotFoundError):
        read_json_object(tmp_path / "none.json")
    with pytest.raises(ValueError, match="not a plain file"):
        read_json_object(tmp_path)
