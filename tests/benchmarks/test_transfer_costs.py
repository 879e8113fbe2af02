import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_pulls_and_pushes_are_measured_beside_curl_and_written_down(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    command = [sys.executable, "-m", "benchmarks.transfers", "--megabytes", "3", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--out", str(out)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["megabytes"] == 3
    measured = {(s["measure"], s["server"]): s["values"] for s in record["samples"]}
    assert set(measured) == {("pull", "corral"), ("pull", "curl+sha256sum"), ("push", "corral")}
    assert all(values["mb_per_s"] > 0 for values in measured.values())
    assert measured["pull", "corral"]["most_mb"] > 10
    assert [line["title"] for line in record["summary"]][:2] == [
        "pull, MB/s",
        "server resident while pulling, most, MB",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]  # nothing is left
