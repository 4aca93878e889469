"""Who may administer, and what is written down of it."""

import stat
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.adaptation import Plan
from core.admin import FREE_ATTEMPTS, LONGEST_WAIT_S, TICKET_S, TOKEN_FILE, Admin, Gate, Ticket, admin_token, listed
from core.administration import Administration, sign_in
from core.config import Settings
from core.dataset import Dataset
from core.errors import AdminError, RunError, SettingsError
from core.jobs import TrainingRequest, jobs_in
from core.store import Store

TOKEN = "a token of more than sixteen"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(lambda: TOKEN, clock=clock)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    yield store
    store.close()


def settings(runs: Path, **given: object) -> Settings:
    return Settings.model_validate({"runs_dir": runs} | given)


def test_the_token_is_made_once_told_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    told: list[str] = []
    first = admin_token(settings(tmp_path / "runs"), tell=told.append)
    again = admin_token(settings(tmp_path / "runs"), tell=told.append)
    path = tmp_path / "runs" / TOKEN_FILE
    assert first == again == path.read_text().strip()
    assert len(first) == 48
    assert len(told) == 1
    assert first in told[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [TOKEN_FILE]


def test_servers_that_start_at_once_agree_on_one_token(tmp_path: Path) -> None:
    told: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: admin_token(settings(tmp_path), tell=told.append), range(16)))
    assert len(tokens) == 1
    assert len(told) == 1


def test_a_token_of_the_environment_is_never_written(tmp_path: Path) -> None:
    assert admin_token(settings(tmp_path, admin_token=TOKEN)) == TOKEN
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("token", ["", "short"])
def test_a_token_too_short_to_be_one_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(SettingsError, match="16 characters or more"):
        admin_token(settings(tmp_path, admin_token=token))
    (tmp_path / TOKEN_FILE).write_text(token)
    with pytest.raises(SettingsError, match="16 characters or more"):
        admin_token(settings(tmp_path))


def test_the_right_token_gives_a_ticket_that_passes_until_it_ends(gate: Gate, clock: Clock) -> None:
    ticket = gate.sign_in(f" {TOKEN}\n")
    assert gate.check(ticket) == Admin("admin")
    assert ticket.secret not in repr(ticket)
    clock.now = TICKET_S + 1
    with pytest.raises(AdminError, match="Sign in first"):
        gate.check(ticket)


@pytest.mark.parametrize("ticket", [None, Ticket(""), Ticket("made up")])
def test_no_ticket_and_a_made_up_one_do_not_pass(gate: Gate, ticket: Ticket | None) -> None:
    gate.sign_in(TOKEN)
    with pytest.raises(AdminError):
        gate.check(ticket)


def test_signing_out_ends_a_ticket_and_a_new_token_ends_them_all(clock: Clock) -> None:
    token = [TOKEN]
    gate = Gate(lambda: token[0], clock=clock)
    first, second = gate.sign_in(TOKEN), gate.sign_in(TOKEN)
    gate.sign_out(first)
    with pytest.raises(AdminError):
        gate.check(first)
    gate.check(second)
    token[0] = "another token of some length"
    with pytest.raises(AdminError):
        gate.check(second)


def test_however_often_a_wrong_token_comes_the_next_one_waits(gate: Gate, clock: Clock) -> None:
    for _ in range(2_000):
        with pytest.raises(AdminError):
            gate.sign_in("wrong")
        clock.now += 61
    with pytest.raises(AdminError, match="got another text"):
        gate.sign_in("wrong")
    with pytest.raises(AdminError, match="Too many wrong tokens"):
        gate.sign_in(TOKEN)


def test_wrong_tokens_make_everybody_wait_twice_as_long_each_time(gate: Gate, clock: Clock) -> None:
    for _ in range(FREE_ATTEMPTS):
        with pytest.raises(AdminError, match="got another text"):
            gate.sign_in("wrong")
    waits = []
    for _ in range(8):
        with pytest.raises(AdminError, match="got another text"):
            gate.sign_in("wrong")
        started = clock.now
        with pytest.raises(AdminError, match="Too many wrong tokens") as refused:
            gate.sign_in(TOKEN)
        assert refused.value.code == "too_many_attempts"
        while True:
            try:
                gate._refuse_while_waiting()
                break
            except AdminError:
                clock.now += 1
        waits.append(clock.now - started)
    assert waits == [2, 4, 8, 16, 32, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]
    gate.sign_in(TOKEN)
    for _ in range(FREE_ATTEMPTS):
        with pytest.raises(AdminError, match="got another text"):
            gate.sign_in("wrong")


@pytest.mark.parametrize("text", ["", "x" * 100_000, "\ud800", "café\0", TOKEN[:-1], TOKEN.upper()])
def test_whatever_is_sent_as_a_token_is_only_wrong(gate: Gate, text: str) -> None:
    with pytest.raises(AdminError) as refused:
        gate.sign_in(text)
    assert refused.value.code == "wrong_token"
    assert TOKEN not in str(refused.value)


def test_an_identity_provider_vouches_for_those_on_the_list_only(tmp_path: Path) -> None:
    given = settings(tmp_path, admin_emails="Me@Example.org, you@example.org")
    assert listed("me@example.org", verified=True, settings=given) == Admin("me@example.org")
    for email, verified in (
        ("other@example.org", True),
        (None, True),
        ("you@example.org", False),
        ("you@example.org", None),
        ("you@example.org", "true"),
        ("", True),
    ):
        with pytest.raises(AdminError):
            listed(email, verified=verified, settings=given)
    with pytest.raises(AdminError, match="names nobody"):
        listed("me@example.org", verified=True, settings=settings(tmp_path))


class Trainer:
    """Counts what it is asked to do."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> None:
        self.asked.append(f"start by {asked_by}")


def administration(store: Store, runs: Path, trainer: Trainer, *, may: bool) -> Administration:
    def guard() -> Admin:
        if not may:
            raise AdminError("no", code="signed_out")
        return Admin("ada")

    return Administration(guard, store, {"local": trainer}, runs)  # type: ignore[dict-item]


def outcomes(store: Store) -> list[tuple[str, str, str]]:
    return list(store.actions()[["who", "action", "outcome"]].itertuples(index=False, name=None))


def test_an_action_is_written_down_with_who_what_and_how_it_went(store: Store, tmp_path: Path) -> None:
    trainer = Trainer()
    desk = administration(store, tmp_path, trainer, may=True)
    desk.launch(TrainingRequest(dataset=tmp_path / "toy"))
    with pytest.raises(RunError):
        desk.promote("nothing")
    assert trainer.asked == ["start by ada"]
    assert outcomes(store) == [("ada", "promote", "failed: no_run"), ("ada", "launch", "done")]
    assert "fold of toy, fold 1, 480 epochs" in store.actions()["subject"].iloc[1]


def test_every_action_asks_the_guard_and_a_refusal_does_nothing_but_stand_in_the_audit(
    store: Store, tmp_path: Path
) -> None:
    trainer = Trainer()
    desk = administration(store, tmp_path, trainer, may=False)
    base = Dataset(name="toy", root=tmp_path, class_names=("dog", "rain"), clips=(), content_hash="")
    plan = Plan(taken=(), new_classes=(), left_out={})
    actions = {
        "launch": lambda: desk.launch(TrainingRequest(dataset=tmp_path)),
        "adapt": lambda: desk.adapt(base, plan, init=tmp_path, epochs=1, learning_rate=1e-4),
        "cancel": lambda: desk.cancel("a"),
        "resume": lambda: desk.resume("a"),
        "promote": lambda: desk.promote("a"),
        "roll back": desk.roll_back,
        "export": lambda: desk.export("a", tmp_path / "a.zip"),
    }
    for action in actions.values():
        with pytest.raises(AdminError):
            action()
    assert trainer.asked == []
    assert jobs_in(tmp_path) == []
    assert set(outcomes(store)) == {("nobody", name, "refused: signed_out") for name in actions}


def test_signing_in_is_written_down_without_the_token(gate: Gate, store: Store) -> None:
    for _ in range(FREE_ATTEMPTS + 1):
        with pytest.raises(AdminError):
            sign_in(gate, "wrong", store)
    with pytest.raises(AdminError, match="Too many"):
        sign_in(gate, TOKEN, store)
    assert outcomes(store) == [("nobody", "sign in", "refused: wrong_token")] * (FREE_ATTEMPTS + 1)
    assert not store.actions().astype(str).apply(lambda column: column.str.contains(TOKEN)).any(axis=None)


def test_a_run_is_exported_without_its_checkpoints_and_what_is_hidden(store: Store, tmp_path: Path) -> None:
    for name in ("config.json", "artifact/artifact.json", "checkpoints/last.ckpt", ".lock", "members/a/config.json"):
        path = tmp_path / "runs" / "a-run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    desk = administration(store, tmp_path / "runs", Trainer(), may=True)
    desk.export("a-run", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == ["a-run/artifact/artifact.json", "a-run/config.json"]
    for name in ("..", "../runs/a-run", ".", "nothing", "/etc"):
        with pytest.raises(RunError):
            desk.export(name, tmp_path / "b.zip")
