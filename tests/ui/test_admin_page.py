"""The Admin page as a person uses it. What takes a browser or a real training is in ``tests/browser``."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import services, state
from core.classifier import Classifier
from core.config import ROOT, SHIPPED_ARTIFACT
from core.jobs import TrainingRequest, create_job, jobs_in, save_job
from core.processes import Process
from core.store import Store
from core.training.runs import RunFolder
from tests.synthetic_dataset import write_dataset
from tests.ui.test_classify_page import file_of, noise
from tests.ui.test_training_page import trained

OpenApp = Callable[..., AppTest]
TOKEN = "a token of more than sixteen"


@pytest.fixture
def world(open_app: OpenApp, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """The Admin page over a runs folder, a small dataset and a database of its own."""
    write_dataset(tmp_path / "toy", n_classes=2, folds=2, per_class_and_fold=2, duration_s=0.3)

    def start(**settings: object) -> AppTest:
        own = {
            "RUNS_DIR": tmp_path / "runs",
            "DATA_DIR": tmp_path / "toy",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'store.sqlite3'}",
            "ADMIN_TOKEN": TOKEN,
        }
        page = open_app(**(own | settings))
        monkeypatch.delenv("EARSHOT_ARTIFACT", raising=False)
        return page.switch_page(str(ROOT / "pages" / "admin.py")).run()

    return start


def sign_in(page: AppTest, token: str = TOKEN) -> AppTest:
    page.text_input(key=state.TOKEN.name).set_value(token)
    return page.button(key="admin_sign_in_button").click().run()


def go_to(page: AppTest, tab: str) -> AppTest:
    page.session_state["admin_tab"] = next(label for label in TABS if tab in label)
    return page.run()


TABS = (
    ":material/play_circle: Train",
    ":material/tune: Own sounds",
    ":material/model_training: Models",
    ":material/receipt_long: Audit",
)


def words_on(page: AppTest) -> str:
    kinds = (page.title, page.subheader, page.markdown, page.caption, page.error, page.warning, page.info)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def actions(tmp_path: Path) -> list[tuple[str, str, str]]:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    rows = store.actions()[["who", "action", "outcome"]].itertuples(index=False, name=None)
    store.close()
    return list(rows)


def test_the_page_asks_to_sign_in_and_shows_nothing_else(world: Callable[..., AppTest]) -> None:
    page = world()
    assert not page.exception
    assert len(page.button) == 1
    assert page.button[0].label == "Sign in"
    assert "Launch" not in words_on(page)


def test_a_wrong_token_is_refused_and_many_are_limited(world: Callable[..., AppTest], tmp_path: Path) -> None:
    page = world()
    for _ in range(5):
        page = sign_in(page, "wrong")
        assert "Expected the admin token, got another text" in words_on(page)
    page = sign_in(page)
    assert "Too many wrong tokens" in words_on(page)
    assert state.TICKET.name not in page.session_state or page.session_state[state.TICKET.name] is None
    assert actions(tmp_path) == [("nobody", "sign in", "refused: wrong_token")] * 5


def test_the_right_token_opens_the_page_and_leaves_no_trace_of_itself(world: Callable[..., AppTest]) -> None:
    page = sign_in(world())
    assert not page.exception
    assert not page.error
    assert "Signed in as admin." in words_on(page)
    assert "Serving" in words_on(page)
    assert TOKEN not in repr(page.session_state)
    page = page.button(key="admin_sign_out").click().run()
    assert page.button[0].label == "Sign in"


def test_a_launch_queues_what_was_asked(
    world: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.local_jobs.LocalTrainer._set_going", lambda self: None)
    page = sign_in(world())
    assert "toy: 8 clips, 2 classes, 2 folds" in words_on(page)
    page.selectbox(key=state.LAUNCH_FOLD.name).set_value(2)
    page.number_input(key=state.LAUNCH_EPOCHS.name).set_value(7)
    page.number_input(key=state.LAUNCH_SEED.name).set_value(3)
    page = page.button(key="admin_launch").click().run()
    assert not page.exception
    (job,) = jobs_in(tmp_path / "runs")
    asked = job.request
    assert (asked.fold, asked.epochs, asked.seed, asked.protocol, job.asked_by) == (2, 7, 3, "fold", "admin")
    assert "Waits for its turn" in words_on(page)
    page = page.button(key=f"admin_cancel_{job.id}").click().run()
    assert jobs_in(tmp_path / "runs")[0].state == "cancelled"
    page = page.button(key=f"admin_resume_{job.id}").click().run()
    assert jobs_in(tmp_path / "runs")[0].state == "queued"
    done = [("admin", name, "done") for name in ("resume", "cancel", "launch", "sign in")]
    assert actions(tmp_path) == done


def test_an_action_after_the_sign_in_ended_does_nothing(
    world: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.local_jobs.LocalTrainer._set_going", lambda self: None)
    page = sign_in(world())
    services.administration.gate().sign_out(page.session_state[state.TICKET.name])
    page = page.button(key="admin_launch").click().run()
    assert jobs_in(tmp_path / "runs") == []
    assert page.button[0].label == "Sign in"


def test_a_dataset_that_is_none_is_told(world: Callable[..., AppTest], tmp_path: Path) -> None:
    page = sign_in(world(DATA_DIR=tmp_path / "nothing"))
    assert not page.exception
    assert "Expected a dataset with audio/" in words_on(page)


def test_a_job_whose_process_is_gone_is_shown_as_dead_with_a_way_to_go_on(
    world: Callable[..., AppTest], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    job = create_job(tmp_path / "runs", TrainingRequest(dataset=tmp_path / "toy"))
    save_job(job, state="running", process=Process(pid=2**22 - 1, started="0@"))
    page = sign_in(world())
    assert f"**{job.id}** · dead" in words_on(page)
    assert page.button(key=f"admin_resume_{job.id}")


def finished(runs: Path, name: str, artifact: Path) -> RunFolder:
    folder = trained(runs / name)
    shutil.copytree(artifact, folder.artifact)
    return folder


def test_a_finished_run_is_promoted_and_taken_back(
    world: Callable[..., AppTest], artifact: Path, tmp_path: Path
) -> None:
    finished(tmp_path / "runs", "mine", artifact)
    page = go_to(sign_in(world()), "Models")
    assert not page.exception
    assert "This model is uncalibrated" in words_on(page)
    assert "rests on 6 held-out clips only" in words_on(page)
    assert "does not know what the serving model knows" in words_on(page)
    page = page.button(key="admin_promote").click().run()
    assert not page.error
    assert "promoted from mine by admin" in words_on(page)
    assert services.environment.settings().artifact.parent == tmp_path / "runs" / "served"
    page = page.button(key="admin_roll_back").click().run()
    assert "the shipped model" in words_on(page)
    assert [action for _, action, _ in actions(tmp_path)] == ["roll back", "promote", "sign in"]


def test_where_modal_is_set_up_the_page_says_that_it_must_be_sent_the_model(
    world: Callable[..., AppTest], artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "runs", "mine", artifact)
    page = sign_in(world())
    assert "modal deploy" not in words_on(go_to(page, "Models"))
    (tmp_path / "modal.toml").write_text("")
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    assert "`modal deploy modal_backend.py`" in words_on(go_to(page, "Models"))


def test_an_altered_model_is_not_promoted(world: Callable[..., AppTest], artifact: Path, tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs", "mine", artifact)
    (folder.artifact / "model.safetensors").write_bytes(b"altered")
    page = go_to(sign_in(world()), "Models")
    page = page.button(key="admin_promote").click().run()
    assert "is not what was saved" in words_on(page)
    assert actions(tmp_path)[0] == ("admin", "promote", "failed: altered")


def test_a_model_named_in_the_environment_wins_and_the_page_says_so(
    world: Callable[..., AppTest], artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "runs", "mine", artifact)
    page = world()
    monkeypatch.setenv("EARSHOT_ARTIFACT", str(artifact))
    page = go_to(sign_in(page), "Models")
    assert "EARSHOT_ARTIFACT` names the model that answers" in words_on(page)
    assert page.button(key="admin_promote").disabled


def test_the_audit_lists_what_was_done(world: Callable[..., AppTest]) -> None:
    page = go_to(sign_in(world()), "Audit")
    assert not page.exception
    assert page.dataframe[0].value["action"].tolist() == ["sign in"]


@pytest.mark.parametrize(
    ("user", "admits"),
    [({"email": "me@example.org", "email_verified": True}, True), ({"email": "you@example.org"}, False)],
)
def test_an_identity_provider_replaces_the_token(
    world: Callable[..., AppTest], tmp_path: Path, user: dict[str, object], admits: bool
) -> None:
    page = world(ADMIN_EMAILS="me@example.org")
    page.secrets["auth"] = {"redirect_uri": "http://localhost:8501/oauth2callback", "cookie_secret": "x"}
    page.user = {"is_logged_in": False}
    page = page.run()
    assert not page.text_input
    assert page.button[0].label == "Sign in"
    page.user = {"is_logged_in": True} | user
    page = page.run()
    assert ("Signed in as me@example.org." in words_on(page)) == admits
    assert ("you@example.org may not administer" in words_on(page)) != admits
    page = page.run()
    who = user["email"]
    assert actions(tmp_path) == [(who, "sign in", "done" if admits else "refused: not_listed")]  # once
    page.button(key="admin_sign_out").click().run()
    assert actions(tmp_path)[0] == (who, "sign out", "done")


def test_corrected_sounds_that_were_kept_are_offered_to_learn_from(
    world: Callable[..., AppTest], artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.local_jobs.LocalTrainer._set_going", lambda self: None)
    page = go_to(sign_in(world()), "Own sounds")
    assert "No sound to learn from yet" in words_on(page)
    classifier = Classifier.from_artifact(artifact)
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    for seconds, label in ((1, "class_1"), (2, "kettle")):
        sound = file_of(noise(seconds))
        prediction = classifier.predict(sound)
        store.correct(store.log(prediction, classifier.manifest, name="mine", origin="app"), label)
        store.keep_sound(prediction.clip_id, sound)
    store.close()
    page = page.run()
    assert not page.exception
    assert page.dataframe[0].value["Own sounds"].tolist() == [1]
    assert "1 left out: new class kettle: 1 of the 10 sounds it needs" in words_on(page)
    page = page.button(key="admin_adapt").click().run()
    assert not page.error
    (job,) = jobs_in(tmp_path / "runs")
    assert (job.request.init, job.request.protocol, job.request.epochs) == (SHIPPED_ARTIFACT, "crossval", 20)
    assert job.request.dataset.parent == tmp_path / "runs" / "datasets"
    assert actions(tmp_path)[0] == ("admin", "adapt", "done")
