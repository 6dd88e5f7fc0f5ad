"""The paper's experiment, small, as a user rehearses it: real files, the real model, and the fakes behind a port."""

from pathlib import Path

import platformdirs
import pytest
from street import limbeck, settings

from benchmarks.rehearsal_data import main as write_data
from limbeck.api.fake_server import FakeServer
from limbeck.api.fake_teacher import FakeTeacher
from limbeck.manifest import read_manifest
from limbeck.recipe.file import load_recipe, packaged_recipe
from limbeck.records.verdict import Verdict

SHARED = Path(__file__).parents[2] / "shared" / "data"
RECIPE = packaged_recipe("paper-rehearsal")
PER_MODEL = ("evaluate", "heldout_pairs")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data files are not at {SHARED}")
def test_every_stage_of_every_arm_of_the_papers_recipe_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = load_recipe(RECIPE).model.student
    student = Path(platformdirs.user_cache_dir("limbeck")) / "models" / name  # the user's own, not the tests' cache
    if not (student / "config.json").is_file():
        pytest.skip(f"the model {name} is not here; `limbeck pull {name}` fetches it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for key in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    assert write_data(["--source", str(SHARED), "--out", "rehearsal-data"]) == 0
    with FakeServer(FakeTeacher()).listen() as url:
        there = settings(
            f"model.student={student}", f"teach.endpoint.base_url={url}", f"judges.nemotron.endpoint.base_url={url}"
        )
        limbeck("run", RECIPE, "--out", "run", *there).done()
        again = limbeck("run", RECIPE, "--out", "run", *there).done()
    assert again.ran == []
    arms = load_recipe(RECIPE).arms
    verdict = Verdict.model_validate_json(Path("run/verdict/verdict.json").read_text(encoding="utf-8"))
    assert [score.model for score in verdict.scores] == ["base", "sft", *arms]
    for unit in (f"{stage}/{model}" for stage in PER_MODEL for model in ("base", "sft", *arms)):
        assert read_manifest(Path("run") / unit) is not None, unit
    page = Path("run/report/report.html").read_text(encoding="utf-8")
    assert all(arm in page for arm in arms)
