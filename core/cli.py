"""``python -m core VERB``: thin commands over the library. Facts go to stdout, progress and logs to stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN, Settings, TrainConfig
from core.errors import AudioError, EarshotError, LimitError, RecordsError, StoreError
from core.shares import in_percent

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Earshot: environmental sounds, classified and explained.",
)

ArtifactOption = Annotated[Path | None, typer.Option("--artifact", help="Model folder; EARSHOT_ARTIFACT otherwise.")]
DataOption = Annotated[Path, typer.Option("--data", help="Dataset in ESC-50's layout: audio/ and meta/esc50.csv.")]
DevicesOption = Annotated[int, typer.Option("--devices", min=1, help="GPUs (else processes) that share each epoch.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any training setting, e.g. augment.crop_s=3.")
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit status 0, 1 for an error of ours (told on stderr), 2 for a wrong command line."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    try:
        app(args=None if argv is None else list(argv))
    except EarshotError as exc:
        print(f"error [{exc.code}]: {exc}", file=sys.stderr)
        return 1
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return 0


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Sound files in any common format.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines: one object a file, in the order given.")] = False,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Classes to list; all with --json, else 3.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Write the answers into the prediction log; folders are walked for sounds.")
    ] = False,
    artifact: ArtifactOption = None,
) -> None:
    """Classify sound files. A bad file never stops the others; the exit status is 1 if any failed."""
    from core.classifier import Classifier
    from core.inference import leave_cores_free
    from core.store import Store

    leave_cores_free()
    settings = Settings.load()
    classifier = Classifier.from_artifact(artifact or settings.artifact, limits=settings.limits)
    store = Store.open(settings.database) if log else None
    failed = False
    for file in _walked(files) if log else files:
        answer = _classify(classifier, file, top_k if as_json else top_k or 3, store, settings.keep_audio)
        failed |= "error" in answer or "log_error" in answer
        print(json.dumps(answer, ensure_ascii=False) if as_json else _in_words(answer), flush=True)
    raise typer.Exit(int(failed))


def _walked(files: Sequence[Path]) -> Iterator[Path]:
    """Each file, and for a folder every sound file under it; what is no sound there is counted."""
    from core.soundfiles import sound_files

    for file in files:
        if not file.is_dir():
            yield file
            continue
        try:
            sounds, others = sound_files(file)
        except AudioError:
            yield file  # it is told in its place, as a bad file
            continue
        if others:
            print(f"{file}: {len(sounds):,} sound files; {len(others):,} other files passed over", file=sys.stderr)
        yield from sounds


def _classify(classifier: Any, file: Path, top_k: int | None, store: Any = None, keep: bool = False) -> dict[str, Any]:
    try:
        data = _read(file, classifier.limits.max_bytes)
        prediction = classifier.predict(data)
    except AudioError as exc:
        return {"file": _written(file), "error": _told(exc)}
    logged: dict[str, Any] = {}
    if store is not None:
        name, kept = _written(Path(file.name)), data if keep else None
        try:
            logged = {"id": store.log(prediction, classifier.manifest, name=name, origin="cli", sound=kept)}
        except StoreError as exc:  # the answer was made and is given
            logged = {"log_error": _told(exc)}
    return logged | {
        "file": _written(file),
        "label": prediction.label,
        "confidence": prediction.confidence,
        "unknown": prediction.unknown,
        "unknown_score": prediction.unknown_score,
        "probabilities": dict(list(prediction.probabilities.items())[:top_k]),
        "duration_s": prediction.duration_s,
        "latency_ms": round(prediction.latency_ms, 3),
        "quality": [warning.model_dump() for warning in prediction.quality],
        "fingerprint": prediction.fingerprint,
    }


def _told(exc: EarshotError) -> dict[str, str]:
    return {"code": exc.code, "message": str(exc)}


def _written(file: Path) -> str:
    """A path as text: names of other encodings than UTF-8 hold bytes that neither JSON nor a database takes."""
    return os.fsencode(file).decode("utf-8", "replace")


def _read(file: Path, max_bytes: int) -> bytes:
    if file.is_dir():
        raise AudioError(
            "Expected a sound file, got a folder, or one without sounds. Give files, or a folder of sounds with --log.",
            code="unreadable_file",
        )
    try:
        with file.open("rb") as opened:
            data = opened.read(max_bytes + 1)  # whatever its size is said to be: pipes say 0
        if len(data) > max_bytes:
            has = max(file.stat().st_size, len(data))
            raise LimitError(
                f"Expected at most {max_bytes:,} bytes, {_written(Path(file.name))} has {has:,}. Cut it or set "
                "EARSHOT_MAX_BYTES.",
                code="too_many_bytes",
            )
        return data
    except OSError as exc:
        raise AudioError(
            f"Expected a readable file, got {exc.strerror}. Check the path.", code="unreadable_file"
        ) from exc


def _visible(text: str) -> str:
    """``text`` for a terminal: what is no printable character is told and not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _in_words(answer: dict[str, Any]) -> str:
    file = _visible(answer["file"])
    if "error" in answer:
        return f"{file}\n  error [{answer['error']['code']}]: {answer['error']['message']}"
    ranked = "  ".join(f"{name} {in_percent(p)}" for name, p in answer["probabilities"].items())
    trouble = answer.get("log_error")
    failed = f"\n  not logged [{trouble['code']}]: {trouble['message']}" if trouble else ""
    warnings = "".join(f"\n  note: {warning['message']}" for warning in answer["quality"])
    strange = "unlike the sounds it learnt: none of the classes; closest: " if answer["unknown"] else ""
    facts = f"({answer['duration_s']:.2f} s, {answer['latency_ms']:.0f} ms)"
    return f"{file}\n  {strange}{ranked}   {facts}{warnings}{failed}"


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback EARSHOT_API_KEY is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    artifact: ArtifactOption = None,
) -> None:
    """Answer over HTTP until it is ended; then finish what was accepted. EARSHOT_BACKEND says who answers.

    A model that is promoted meanwhile takes the place of the one that answers, unless one was named.
    """
    from core.serving.access import Access, check_host

    settings = Settings.load()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    check_host(host, key)
    Access(key)  # a key that will not do is told before torch is imported

    from core.api import create_api
    from core.backend import Backend, backend_over
    from core.inference import leave_cores_free
    from core.serving.server import serve as run_server
    from core.store import Store

    def over(model: Path) -> Backend:
        return backend_over(model, settings, answer_s=max(1.0, settings.api_timeout_s - TO_TELL_S))

    leave_cores_free()
    named = artifact is not None or settings.artifact_is_set
    api = create_api(
        over(artifact or settings.artifact),
        store=Store.open(settings.database),
        settings=settings,
        successor=None if named else over,
    )
    run_server(api, host=host, port=port, settings=settings)


TO_TELL_S = 12.0  # of the time that an answer may take: to find Modal and, without an answer, to find out why
InitOption = Annotated[
    Path | None,
    typer.Option("--init", metavar="MODEL", help="Start from the weights of this artifact or run, and of its build."),
]


@app.command()
def train(
    data: DataOption,
    fold: Annotated[str, typer.Option(help="Held-out fold, or 'all' to train on every clip.")] = "1",
    epochs: Annotated[int, typer.Option(min=1)] = TrainConfig().epochs,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of run folders; EARSHOT_RUNS_DIR otherwise.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run folder; made from the time otherwise.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this interrupted run folder, as it was asked.")
    ] = None,
    init: InitOption = None,
    devices: DevicesOption = 1,
    changes: SetOption = None,
) -> None:
    """Train one model; its run folder holds records, metrics, TensorBoard events and an artifact."""
    from core.dataset import load_dataset
    from core.training.loop import train as run_training
    from core.training.runs import RunConfig, RunFolder, fold_named, new_run_id, origin_of, run_at, train_config
    from core.training.tuning import build_of, started_from

    dataset = load_dataset(data)
    if resume is not None:
        folder = RunFolder(resume)
        config = folder.config()
    else:
        run_id = run_id or new_run_id(f"fold-{fold}-seed-{seed}")
        folder = run_at(out or Settings.load().runs_dir, run_id)
        config = RunConfig(
            run_id=run_id,
            fold=fold_named(fold, dataset.folds),
            train=train_config(changes or [], epochs=epochs, seed=seed, **build_of(init)),
            **started_from(init),
            **origin_of(dataset),
        )
    run_training(config, dataset, folder, devices=devices)
    print(json.dumps({"run": str(folder.path), **folder.metrics()}, indent=2))


@app.command()
def crossval(
    data: DataOption,
    seeds: Annotated[int, typer.Option(min=1, help="How many; 0, 1, 2, …")] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = TrainConfig().epochs,
    out: Annotated[Path | None, typer.Option(help="Folder of run folders; EARSHOT_RUNS_DIR otherwise.")] = None,
    run_id: Annotated[str, typer.Option(help="Name of the run folder; the same name goes on with it.")] = "crossval",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS[+CLASS…]|each",
            help="Train once more without these classes, to measure how unknown sounds are told. Repeatable.",
        ),
    ] = None,
    leave_out_epochs: Annotated[
        int | None, typer.Option(min=1, help="Of the networks without some classes; a quarter of --epochs otherwise.")
    ] = None,
    from_shipped: Annotated[
        bool,
        typer.Option("--from-shipped", help="Go on with the shipped run in a new folder: its command with more asked."),
    ] = False,
    init: InitOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Networks trained at once, each with its share of the cores.")] = 1,
    devices: DevicesOption = 1,
    changes: SetOption = None,
) -> None:
    """Train every fold and seed and one model on all folds. Killed anywhere, the same command goes on."""
    from core.dataset import load_dataset
    from core.training.crossval import MAY_GROW, CrossvalConfig, cross_validate, left_out_named
    from core.training.members import Means
    from core.training.runs import RunFolder, origin_of, run_at, train_config
    from core.training.shipping import restore
    from core.training.tuning import build_of, started_from

    dataset = load_dataset(data)
    folder = run_at(out or Settings.load().runs_dir, run_id)
    config = CrossvalConfig(
        run_id=run_id,
        folds=dataset.folds,
        seeds=tuple(range(seeds)),
        left_out=left_out_named(leave_out or [], dataset.class_names),
        left_out_epochs=leave_out_epochs or max(1, epochs // 4),
        train=train_config(changes or [], epochs=epochs, **build_of(init)),
        **(started_from(init) | ({} if init is None else {"init": init.absolute()})),
        **origin_of(dataset),
    )
    if from_shipped and not folder.path.exists():
        RunFolder(SHIPPED_RUN).refuse_other(config, MAY_GROW)
        restore(folder.path)
    cross_validate(config, dataset, folder, means=Means(jobs, devices))
    print(json.dumps({"run": str(folder.path), **folder.metrics()}, indent=2))


@app.command()
def ship(run: Annotated[Path, typer.Argument(help="Run folder of a finished cross-validation.")]) -> None:
    """Make a cross-validation and its model the ones that come with Earshot; then run `make gold`."""
    from core.training.runs import RunFolder
    from core.training.shipping import ship as ship_run

    ship_run(RunFolder(run))
    print(f"{SHIPPED_RUN}\n{SHIPPED_ARTIFACT}")


@app.command()
def report(
    source: Annotated[
        Path, typer.Argument(metavar="[RUN|RECORDS.parquet]", help="Run folder or records; the shipped run otherwise.")
    ] = SHIPPED_RUN,
    as_json: Annotated[bool, typer.Option("--json", help="Every number as one JSON object.")] = False,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Class names in the order of the logits, for a file without.")
    ] = None,
    readme: Annotated[Path | None, typer.Option(help="Write a run's table into this file's results section.")] = None,
) -> None:
    """Measure held-out answers: accuracy, confusions, calibration, thresholds, each with its interval."""
    from core.report import results_table, write_results
    from core.sources import of_path
    from core.summary import summary, summary_text
    from core.training.runs import RunFolder

    metrics = RunFolder(source).metrics() if (source / "metrics.json").exists() else None
    if readme is not None:
        write_results(readme, metrics or RunFolder(source).metrics())
    if classes and source.is_dir():
        raise RecordsError(
            f"Expected --classes with a file of records alone: the run {source} names its own. Leave it out.",
            code="bad_choice",
        )
    names = [name.strip() for name in classes.split(",")] if classes else None
    found = summary(of_path(source, class_names=names, with_embedding=False))
    if as_json:
        print(json.dumps(found | ({"run": metrics} if metrics else {}), indent=2, ensure_ascii=False))
        return
    if metrics and "calibration" in metrics:
        print(results_table(metrics), end="\n\n")
    print(summary_text(found))


@app.command()
def drift(
    current: Annotated[Path, typer.Option(help="Records to judge: a Parquet file or a run folder.")],
    reference: Annotated[
        Path, typer.Option(help="Records to judge them by: a Parquet file or a run folder; the shipped run otherwise.")
    ] = SHIPPED_RUN,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Class names in the order of the logits, for files without.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every number of the comparison as JSON.")] = False,
    permutations: Annotated[int, typer.Option(min=200, help="Of the null that each effect is held against.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the permutations.")] = 0,
) -> None:
    """Tell whether the sounds have drifted from the reference, by what, and whether there are enough to say so.

    The verdict is not_enough_data (under 50 records or 25 recordings on a side), no_drift or drift; indicative is true
    under 200 or 100. Records of one source_group count for as many as they are worth.
    """
    import numpy as np

    from core.diagnostics.drift import compare
    from core.sources import of_path

    names = [name.strip() for name in classes.split(",")] if classes else None
    before = of_path(reference, class_names=None if reference.is_dir() else names)
    now = of_path(current, class_names=None if current.is_dir() else names, fallback_names=before.class_names)
    report = compare(before, now, rng=np.random.default_rng(seed), permutations=permutations)
    print(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else report.in_words())


@app.command()
def tableau(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="Run folder or Parquet of records; repeatable. The shipped run.")
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="No run, not even the shipped one: the log alone.")] = False,
    log_since: Annotated[
        str | None, typer.Option(metavar="TIME|all", help="Export the prediction log, too, from this UTC time on.")
    ] = None,
    log_until: Annotated[str | None, typer.Option(metavar="TIME", help="End of the log window, not included.")] = None,
    formats: Annotated[str, typer.Option(help="Some of csv, hyper and twbx.")] = "csv,hyper,twbx",
    hyper_version: Annotated[
        str, typer.Option(help="Of the .hyper file: 0, 2, 3 or 4; 2 is for Tableau 2020.4.15 and later.")
    ] = "2",
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Spectrograms and sounds, where at hand.")] = False,
    base_url: Annotated[str, typer.Option(help="Where you will serve these; their paths are relative otherwise.")] = "",
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish the workbook, as EARSHOT_TABLEAU_… say (see the README).")
    ] = False,
) -> None:
    """Write everything that diagnostics know as CSV, .hyper and a Tableau workbook."""
    from tqdm import tqdm

    from core.tableau import gold_tables, sources
    from core.tableau.export import export, formats_of
    from core.tableau.publish import Site

    settings = Settings.load()
    wanted = formats_of(formats)
    runs = sources.runs(run or [], none=no_run)
    site = Site.of(settings, formats=wanted) if publish else None  # before the work: nothing is exported for nothing
    asked = log_since is not None or log_until is not None
    window = (sources.moment(log_since), sources.moment(log_until)) if asked else None
    with tqdm(total=100, desc="tableau", bar_format="{desc}: {percentage:3.0f} %|{bar}| {postfix}") as bar:

        def show(share: float, what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update(round(share * 100) - bar.n)

        done = export(
            sources.parts(runs, window, settings),
            out,
            formats=wanted,
            hyper_version=hyper_version,
            gold=gold_tables.served(settings.artifact, settings.data_dir),
            media=sources.media(out, settings, base_url=base_url, wanted=thumbnails or bool(base_url)),
            progress=show,
        )
    print("\n".join(f"{path.stat().st_size:>12,}  {path}" for path in done.files))
    print("\n".join(done.said))
    if site is not None:
        from core.tableau.publish import publish as send

        print(send(done.workbook, site))


@app.command("download")
def download_dataset(
    dataset: Annotated[
        Literal["esc10", "esc50", "gold"],
        typer.Option(help="esc10 (40 MB, CC BY), esc50 (650 MB, CC BY-NC) or gold (eleven clips of ESC-10, 1 MB)."),
    ] = "esc10",
    to: Annotated[
        Path | None, typer.Option(help="New folder; EARSHOT_DATA_DIR otherwise, else data/ and the dataset's name.")
    ] = None,
) -> None:
    """Fetch a public dataset, check every byte of it and put it in place."""
    from tqdm import tqdm

    from core.download import download

    settings = Settings.load()
    own = "data_dir" in settings.model_fields_set
    folder = to or (settings.data_dir if own else settings.data_dir.with_name(dataset))
    with tqdm(unit="B", unit_scale=True, desc=dataset) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        download(dataset, folder, progress=show)
    print(folder)


@app.command()
def synthesize(
    to: Annotated[Path, typer.Option("--to", help="New or empty folder.")],
    classes: Annotated[int, typer.Option(help="From 2 to 50.")] = 50,
    clips_per_fold: Annotated[int, typer.Option(help="Of every class; there are five folds.")] = 2,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a dataset of synthesized sounds in ESC-50's layout, to try everything without a download."""
    from core.synthetic_dataset import write_dataset

    write_dataset(to, classes=classes, clips_per_fold=clips_per_fold, seconds=seconds, seed=seed)
    print(to)


@app.command()
def gold(
    data: Annotated[Path, typer.Option("--data", help="Folder with the gold clips in audio/: ESC-10, or gold alone.")],
    record: Annotated[
        bool, typer.Option("--record", help="Hold these answers from now on, in core/assets/gold.json and gold/.")
    ] = False,
) -> None:
    """Ask the shipped model about the gold clips and print what moved; the exit status is 1 if anything did."""
    from core.classifier import Classifier
    from core.gold import answers, differences, read_gold, write_gold
    from core.inference import leave_cores_free

    leave_cores_free()
    classifier = Classifier.from_artifact(SHIPPED_ARTIFACT)
    got = answers(classifier, data)
    expected = read_gold(missing_ok=record)
    moved = differences(expected, got)
    if expected.fingerprint != got.fingerprint:
        print(f"recorded with artifact {expected.fingerprint[:12] or 'none'}, asked {got.fingerprint[:12]}")
    print("\n".join(moved) or f"all {len(got.answers)} gold clips answer as recorded")
    if record:
        from core.tableau import gold_tables

        write_gold(got)
        gold_tables.record(gold_tables.compute(classifier, data))  # what the Tableau export says of these clips
    raise typer.Exit(int(bool(moved) and not record))


@app.command()
def maps(run: Annotated[Path, typer.Argument(help="Run folder with held-out records.")]) -> None:
    """Draw the t-SNE maps of a run anew and keep them beside its records, for the Failure modes page."""
    from core.artifact import read_reference
    from core.atlas import draw_maps
    from core.sources import artifact_of, of_run

    artifact = artifact_of(run)
    records = of_run(run)
    table = draw_maps(run, records, None if artifact is None else read_reference(artifact))
    typer.echo(f"{table['space'].nunique()} maps of {len(records):,} records in {run}")


@app.command()
def views(
    run: Annotated[Path, typer.Argument(help="Run folder of a cross-validation, with its members.")],
    data: DataOption,
) -> None:
    """Measure what hearing a clip several times, or asking several networks, would add and cost."""
    import pandas as pd

    from core.artifact import load_artifact
    from core.dataset import load_dataset
    from core.training.data import decode_clips
    from core.training.runs import RunFolder
    from core.views import answer_together, answer_views, summarise_views

    folder, dataset = RunFolder(run), load_dataset(data)
    tables = []
    waves = None
    for member in folder.members():
        config = member.config()
        if config.fold is None or config.left_out:
            continue
        waves = waves or decode_clips(dataset.clips, config.train.audio)
        chosen = [i for i, clip in enumerate(dataset.clips) if clip.fold == config.fold]
        clips, heard = [dataset.clips[i] for i in chosen], [waves[i] for i in chosen]
        tables.append(answer_views(load_artifact(member.artifact), clips, heard, seed=config.train.seed))
    records = folder.records()
    if records["seed"].nunique() > 1:
        tables.append(answer_together(records, dataset.class_names))
    for row in summarise_views(pd.concat(tables, ignore_index=True)).itertuples():
        print(
            f"{row.view:32} {in_percent(row.accuracy)} ({in_percent(row.low)} to {in_percent(row.high)}), n = {row.n}, "
            f"{row.cost:.2f} times the sound"
        )


@app.command()
def bench(
    seconds: Annotated[float, typer.Option(min=0.25, help="Length of the sound.")] = 5.0,
    repeats: Annotated[int, typer.Option(min=1)] = 50,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="JSON: hardware, threads and every timing.")] = False,
    artifact: ArtifactOption = None,
    records: Annotated[
        int | None, typer.Option(min=1, help="Time a report of so many made-up records instead.")
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="With --records: how many classes.")] = 10,
) -> None:
    """Time every step of an answer on this machine, or a report of many records."""
    from dataclasses import asdict

    if records is not None:
        _bench_records(records, classes, as_json=as_json)
        return

    from core.artifact import load_artifact
    from core.bench import bench as measure
    from core.hardware import processor

    timings = measure(
        load_artifact(artifact or Settings.load().artifact), duration_s=seconds, repeats=repeats, threads=threads
    )
    if as_json:
        facts = {"processor": processor(), "threads": threads, "seconds": seconds}
        print(json.dumps(facts | {"timings": [asdict(timing) for timing in timings]}, indent=2))
        return
    print(f"{seconds:g} s of sound, {repeats} repeats, threads: {threads}, {processor()}")
    for timing in timings:
        print(
            f"  {timing.step:20} {timing.median_ms:7.1f} ms   (5th to 95th percentile "
            f"{timing.low_ms:.1f} to {timing.high_ms:.1f} ms)"
        )


def _bench_records(records: int, classes: int, *, as_json: bool) -> None:
    from dataclasses import asdict

    from core.hardware import processor
    from core.loadtest import report_costs

    if as_json:
        costs = [asdict(cost) for cost in report_costs(records, classes=classes)]
        print(json.dumps({"processor": processor(), "classes": classes, "costs": costs}, indent=2))
        return
    print(f"python -m core report, {classes} classes, {processor()}")
    for cost in report_costs(records, classes=classes):
        print(
            f"  {cost.records:>10,} records ({cost.file_mb:,.0f} MB)  {cost.seconds:6.1f} s on the clock, "
            f"{cost.cpu_seconds:6.1f} s of processors  {cost.peak_mb:6,.0f} MB of memory",
            flush=True,
        )
