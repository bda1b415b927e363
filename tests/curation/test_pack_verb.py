from pathlib import Path

import pytest

from mvit_video.cli import main
from mvit_video.cli.pack import run as pack
from mvit_video.data import load_annotations
from mvit_video.types import ConfigError, MVitVideoError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def listed(tmp_path: Path) -> str:
    """An annotation file of eight files of 1000 bytes."""
    for i in range(8):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]) * 1000)
    (tmp_path / "all.csv").write_text(
        "path,label\n" + "".join(f"{i}.mp4,{'hop' if i % 2 else 'run'}\n" for i in range(8))
    )
    return str(tmp_path / "all.csv")


def test_a_data_set_is_packed(listed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert pack([listed, "--out", out, "--shard-size", "12KB", "--in-order"]) == 0
    assert capsys.readouterr().out == f"packed 8 videos in 3 shards (0.0 MB): {out}\n"
    table = load_annotations(out)
    assert [(table.path(row), table.label_of(row)) for row in range(8)] == [(f"{i}.mp4", 1 - i % 2) for i in range(8)]
    assert pack([listed, "--out", out, "--shard-size", "0.012 mb", "--in-order"]) == 0
    assert "packed 8 videos, 8 of them earlier in 3 shards" in capsys.readouterr().out


def test_failures_show_in_the_exit_code(listed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "5.mp4").unlink()
    assert pack([listed, "--out", f"{tmp_path}/out/", "--max-videos", "2"]) == 1
    out = capsys.readouterr().out
    assert "packed 7 videos in 4 shards" in out
    assert f"1 failed, listed in {tmp_path}/out/failures.csv" in out


def test_a_stopped_run_says_how_to_go_on(
    listed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mvit_video.curation.packing.pack_videos", stop)
    assert main(["pack", listed, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "stopped; the same command resumes after the last complete shard\n"


def test_a_full_disk_is_one_line(listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mvit_video.curation.tar_writing.os.fsync", full)
    with pytest.raises(
        MVitVideoError, match=r"out: cannot be written \(No space left on device\); run the same command"
    ):
        pack([listed, "--out", str(tmp_path / "out")])
    assert list((tmp_path / "out").iterdir()) == []


def test_words_that_mean_nothing(listed: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--shard-size must be a size such as 1GB or 500MB, got '1 apple'"):
        pack([listed, "--out", str(tmp_path / "out"), "--shard-size", "1 apple"])
    for words, message in [
        (["--shard-size", "0"], "shard_bytes must be at least 1, got 0"),
        (["--max-videos", "0"], "max_videos must be at least 1, got 0"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--seed", "1", "--in-order"], "--in-order: not allowed with argument --seed"),
    ]:
        with pytest.raises(ConfigError, match=message):
            pack([listed, "--out", str(tmp_path / "out"), *words])
