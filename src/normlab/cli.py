"""The command line: verbs, arguments, messages. Imports of weight wait until a verb needs them."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

import cyclopts
from cyclopts import App, Group, Parameter
from rich.console import Console

from . import __version__
from .errors import InputError
from .runs import FIELDS, RunConfig

OK, BAD_INPUT, PARTLY, INTERRUPTED = 0, 2, 3, 130
"""Exit statuses; PARTLY: done, but for images that cannot be read and that were named."""

app = App(
    name="normlab",
    version=__version__,
    help="Compare normalization layers in convolutional networks, honestly.",
    help_on_error=False,
    suppress_keyboard_interrupt=False,  # main() says how to go on
)

_RECIPE = Group(
    "Recipe (of every run)",
    help="In compare several values with commas between vary a setting: --batch-size 1,8,32.",
    sort_key=10,
)
_DATA = Group("Data", sort_key=1)
_VERDICT = Group("Verdict", sort_key=2)


def _several(type_: Any, tokens: Sequence[cyclopts.Token]) -> list[Any]:
    """One value, or several with commas between."""
    (one,) = get_args(type_)
    kinds = get_args(one) or (one,)
    values: list[Any] = []
    for text in (part.strip() for token in tokens for part in token.value.split(",")):
        if type(None) in kinds and text == "none":
            values.append(None)
        elif int in kinds or float in kinds:
            kind, word = (int, "whole number") if int in kinds else (float, "number")
            try:
                values.append(kind(text))
            except ValueError:
                raise ValueError(f"{text!r} is no {word}") from None
        else:
            values.append(text)
    return values


def _run_options(leave_out: Sequence[str], *, several: bool) -> type:
    """The fields of RunConfig as options that are None unless given.

    With ``several`` an option of one number or word takes several with commas between them.
    """
    hints = get_type_hints(RunConfig)
    made: list[tuple[str, Any, Any]] = []
    for name, f in FIELDS.items():
        if name in leave_out:
            continue
        shown = "none" if f.default is None else f.default
        if isinstance(shown, tuple):
            shown = " ".join(map(str, shown))
        elif isinstance(shown, bool):
            shown = "yes" if shown else "no"
        hint: Any = hints[name]
        listed = several and hint is not bool and not isinstance(f.default, tuple)
        extra: dict[str, Any] = {}
        if listed:
            extra = {"converter": _several, "n_tokens": 1, "negative": ""}
        parameter = Parameter(
            help=f"{f.metadata['help']} [default: {shown}]",
            show_default=False,
            group=_RECIPE,
            **extra,
        )
        hint = list[hint] if listed else hint | None
        made.append((name, Annotated[hint | None, parameter], None))
    return dataclasses.make_dataclass(
        "RunOptions", made, frozen=True, namespace={"__module__": __name__}
    )


if TYPE_CHECKING:
    CompareOptions: TypeAlias = Any
    TrainOptions: TypeAlias = Any
else:  # made from RunConfig's fields, so that an option is described in one place
    CompareOptions = _run_options(["norm", "seed", "device"], several=True)
    TrainOptions = _run_options(["device"], several=False)

Data = Annotated[
    str | None,
    Parameter(
        group=_DATA,
        help="digits, a folder of class folders (with or without train, val and test above "
        "them), of IDX files, or of CIFAR-10 batches. [default: digits]",
    ),
]
ImageSize = Annotated[
    int | None,
    Parameter(
        group=_DATA,
        help="Side of the images in pixels. [default: their own up to 64, above that 64]",
    ),
]
LimitPerClass = Annotated[
    int | None,
    Parameter(
        group=_DATA,
        help="At most so many training images a class; val and test in proportion.",
    ),
]
SkipBad = Annotated[
    bool | None,
    Parameter(
        group=_DATA, negative="", help="Leave out files that are no good images, and count them."
    ),
]
SplitPath = Annotated[
    str | None,
    Parameter(
        name="--split",
        group=_DATA,
        help="A split file (of check-data --write-split) that says which image is in which split.",
    ),
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="Where to run.")]


@app.command(sort_key=1)
def compare(
    what: Annotated[
        str,
        Parameter(
            help="A preset (norms, experiment, sanity, batch-size, learning-rate, depth) or a TOML "
            "file describing a grid."
        ),
    ] = "norms",
    *,
    data: Data = None,
    arms: Annotated[
        str | None,
        Parameter(help="Normalizations with commas between: bn,gn:groups=4,package.module:Class."),
    ] = None,
    seeds: Annotated[
        int | None, Parameter(help="Seeds, the same for every arm. [default: 3]")
    ] = None,
    image_size: ImageSize = None,
    limit_per_class: LimitPerClass = None,
    skip_bad: SkipBad = None,
    split: SplitPath = None,
    clean_split: Annotated[
        bool,
        Parameter(
            negative="",
            group=_DATA,
            help="Search for copies first, and keep all images of one photograph in one split.",
        ),
    ] = False,
    reference: Annotated[
        str | None,
        Parameter(
            group=_VERDICT,
            help="The arm (in a grid: the layer) that the others are compared with. [default: bn]",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        Parameter(
            group=_VERDICT,
            help="The largest difference that does not matter, in points. [default: 0.5]",
        ),
    ] = None,
    until_decided: Annotated[
        bool,
        Parameter(
            negative="",
            group=_VERDICT,
            help="Add seeds at 3, 5, 8, 12 and 20 until every comparison is decided; --seeds is "
            "then the last look.",
        ),
    ] = False,
    tune: Annotated[
        str | None,
        Parameter(
            group=_VERDICT,
            help="Choose a setting for each arm from the same values, on validation: lr, or with "
            "values lr=0.01,0.03,0.1. The report has both, shared and tuned.",
        ),
    ] = None,
    tune_seeds: Annotated[
        int, Parameter(group=_VERDICT, help="Trials of each value, with seeds of their own.")
    ] = 2,
    out: Annotated[
        Path | None, Parameter(help="The study's folder. [default: a dated one under studies/]")
    ] = None,
    workers: Annotated[
        int | None,
        Parameter(help="Processes side by side. Does not change results. [default: all cores]"),
    ] = None,
    device: DeviceName = "auto",
    dry_run: Annotated[
        bool, Parameter(negative="", help="Print what would be run and how long it takes.")
    ] = False,
    recipe: Annotated[CompareOptions | None, Parameter(name="*")] = None,
) -> int:
    """Compare normalizations on your images: a table, curves and a page.

    With no arguments: seven normalizations, three seeds, on the embedded digits. The same command
    again goes on with what is missing, and runs nothing twice.
    """
    from .console import ConsoleWatcher
    from .workflow import Comparison
    from .workflow import compare as run_comparison

    console = Console()
    with ConsoleWatcher(console) as watcher:
        outcome = run_comparison(
            what,
            data,
            arms=arms,
            seeds=seeds,
            image_size=image_size,
            limit_per_class=limit_per_class,
            skip_bad=skip_bad,
            split=split,
            clean_split=clean_split,
            reference=reference,
            margin=margin,
            until_decided=until_decided,
            tune=tune,
            tune_seeds=tune_seeds,
            out=out,
            workers=workers,
            device=device,
            dry_run=dry_run,
            command=_command_line(),
            watcher=watcher,
            **_given(recipe),
        )
    if not isinstance(outcome, Comparison):
        console.print("Nothing was run (--dry-run).")
        return OK
    if outcome.runs_made == 0:
        console.print("Every run was there already: nothing was run again.")
    _print_results(console, outcome.results, outcome.report)
    return OK


@app.command(sort_key=2)
def train(
    *,
    data: Data = None,
    image_size: ImageSize = None,
    limit_per_class: LimitPerClass = None,
    skip_bad: SkipBad = None,
    split: SplitPath = None,
    out: Annotated[
        Path | None, Parameter(help="The run's folder. [default: a dated one under runs/]")
    ] = None,
    device: DeviceName = "auto",
    recipe: Annotated[TrainOptions | None, Parameter(name="*")] = None,
) -> int:
    """Make a single run: one normalization, one seed."""
    from datetime import date

    from .console import describe_run, progress_bars
    from .data import DataConfig
    from .foreign import code_of
    from .pages.words import duration
    from .runs import identity
    from .studies import RunProgress
    from .training import Progress, resolve_device
    from .workflow import train_one

    console = Console()
    config = RunConfig.from_dict({**_given(recipe), "device": resolve_device(device)})
    stated: dict[str, Any] = {
        "source": data,
        "image_size": image_size,
        "limit_per_class": limit_per_class,
        "skip_bad": skip_bad,
        "split": split,
    }
    asked = DataConfig(**{k: v for k, v in stated.items() if v is not None})
    name = Path(asked.source).name
    folder = out or Path("runs") / (
        f"{date.today().isoformat()}-{name}-{config.norm.replace(':', ',')}-seed-{config.seed}"
        f"-{identity(config, repr(asked), code_of(config.norm))[:6]}"
    )
    with progress_bars(console) as bars:
        task = bars.add_task(f"{config.norm} seed {config.seed}", total=None)
        spoke = [0.0]

        def show(at: Progress) -> None:
            line = describe_run(RunProgress(config.norm, config.seed, at))
            if console.is_terminal:
                bars.update(task, description=line, completed=at.step, total=at.steps)
            elif at.step == at.steps or at.step - spoke[0] >= at.steps / 10:
                spoke[0] = at.step
                console.print(f"{line}  step {at.step}/{at.steps}", highlight=False)

        record = train_one(asked, config, folder, progress=show)
    console.print(f"{record['status']}, {duration(record['seconds'])}", highlight=False)
    for split, metrics in (record["metrics"] or {}).items():
        console.print(
            f"{split:6} accuracy {100 * metrics['accuracy']:.2f} %  "
            f"macro F1 {100 * metrics['macro_f1']:.2f} %  loss {metrics['loss']:.4f}",
            highlight=False,
        )
    console.print(f"Run      {folder}", highlight=False, soft_wrap=True)
    return OK


@app.command(sort_key=3)
def report(
    *studies: Annotated[Path, Parameter(help="Folders of studies.")],
    all_pairs: Annotated[
        bool,
        Parameter(negative="", help="Compare every two arms too, not each with the reference."),
    ] = False,
) -> int:
    """Make the tables, charts and page of studies anew from their runs."""
    from .report import write_report
    from .results import read_results

    if not studies:
        raise InputError("name a study's folder: normlab report STUDY")
    console = Console()
    # All are read before any is written: a wrong name is said at once.
    for results in [read_results(study) for study in studies]:
        if len(studies) > 1:
            console.rule(str(results.folder))
        _print_results(console, results, write_report(results, all_pairs=all_pairs))
    return OK


@app.command(sort_key=3)
def mcnemar(
    first: Annotated[Path, Parameter(help="A run's folder.")],
    second: Annotated[Path, Parameter(help="Another run's folder.")],
    *,
    split: Annotated[Literal["val", "test"], Parameter(help="Of which images.")] = "test",
) -> int:
    """Compare two trained models on the same images, with McNemar's exact test.

    It says which of two models is more often right. It says nothing about the methods that made
    them: for that, compare arms over seeds.
    """
    from .results import read_run
    from .results.statistics import mcnemar as test_two

    found = test_two(read_run(first), read_run(second), split=split)
    console = Console()
    for line in (
        f"{found.first} and {found.second} on {found.images:,} {split} images:",
        f"{found.only_first} images only the first gets right, {found.only_second} only the "
        f"second; the first is {abs(100 * found.difference):.2f} points "
        f"{'better' if found.difference >= 0 else 'worse'}.",
        f"Exact p-value {found.p_value:.3g}: were the two models equally often right where they "
        "differ, so uneven a count or more would come about so often.",
        "This compares two checkpoints, not two methods; another seed is another checkpoint.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return OK


@app.command(sort_key=4)
def explain(
    run: Annotated[
        Path,
        Parameter(help="A run's folder, or a study's to see its arms side by side."),
    ],
    *,
    data: Data = None,
    split: Annotated[
        Literal["train", "val", "test"], Parameter(help="Which images to choose from.")
    ] = "val",
    classes: Annotated[
        str | None, Parameter(help="Class names with commas between. [default: all]")
    ] = None,
    right: Annotated[int, Parameter(help="Rightly classified images a class.")] = 5,
    wrong: Annotated[int, Parameter(help="Wrongly classified images a class.")] = 5,
    method: Annotated[
        Literal["grad-cam", "hires-cam", "cam", "grad-cam++", "layer-cam", "score-cam"],
        Parameter(help="How the map is made."),
    ] = "grad-cam",
    site: Annotated[
        str,
        Parameter(
            help="last: the last block's output, where maps are in logits; mean: over the 2n "
            "layers of the last stage; or a module of the network, such as stages.1.0.relu2."
        ),
    ] = "last",
    arms: Annotated[
        str | None, Parameter(help="Of a study: arms with semicolons between. [default: all]")
    ] = None,
    seed: Annotated[int | None, Parameter(help="Of a study: the seed. [default: first]")] = None,
    faithfulness: Annotated[
        bool, Parameter(negative="", help="Add deletion and insertion curves.")
    ] = False,
    randomization: Annotated[
        bool, Parameter(negative="", help="Add the check with randomized weights.")
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Where the gallery goes. [default: RUN/explain]")
    ] = None,
) -> int:
    """Show what a model looks at: maps over right and wrong images, as a page and pictures."""
    from .console import StageWatcher
    from .workflow import explain as run_explanation

    console = Console()
    with StageWatcher(console) as watcher:
        made = run_explanation(
            run,
            data=data,
            split=split,
            classes=_listed(classes, ","),
            right=right,
            wrong=wrong,
            method=method,
            site=site,
            arms=_listed(arms, ";"),
            seed=seed,
            faithfulness=faithfulness,
            randomization=randomization,
            out=out,
            progress=watcher.reading,
        )
    for note in made.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Page     {made.page}", highlight=False, soft_wrap=True)
    console.print(f"Folder   {made.folder}", highlight=False, soft_wrap=True)
    return OK


@app.command(name="check-data", sort_key=5)
def check_data(
    source: Annotated[
        str,
        Parameter(
            help="digits, a folder of class folders (with or without train, val and test above "
            "them), of IDX files, or of CIFAR-10 batches."
        ),
    ] = "digits",
    *,
    image_size: ImageSize = None,
    split: SplitPath = None,
    write_split: Annotated[
        str | None,
        Parameter(help="Write a clean split here: all images of one photograph in one split."),
    ] = None,
    test: Annotated[
        Literal["auto", "keep", "redraw"],
        Parameter(
            help="Of the written split. auto: a test split that shares no photograph stays as it "
            "is; keep: it stays in any case, and its copies are left out elsewhere; redraw: all "
            "splits are drawn anew."
        ),
    ] = "auto",
    drop_conflicts: Annotated[
        bool,
        Parameter(negative="", help="Leave images that stand under two labels out of it."),
    ] = False,
    split_seed: Annotated[
        int, Parameter(help="Seed of the written split, and of splits that the source lacks.")
    ] = 0,
    out: Annotated[
        Path | None, Parameter(help="The report's folder. [default: a dated one under checks/]")
    ] = None,
    workers: Annotated[
        int | None, Parameter(help="Processes that read images. [default: all cores]")
    ] = None,
) -> int:
    """Check images before training: copies, leaks between splits, shortcuts, balance, health."""
    from .console import StageWatcher, data_summary
    from .workflow import check_data as run_check

    console = Console()
    with StageWatcher(console) as watcher:
        made = run_check(
            source,
            image_size=image_size,
            split=split,
            write_split=write_split,
            test=test,
            drop_conflicts=drop_conflicts,
            split_seed=split_seed,
            out=out,
            workers=workers,
            command=_command_line(),
            progress=watcher.reading,
        )
    data_summary(console, made.findings)
    for note in made.split_notes:
        console.print(f"Split    {note}", highlight=False, markup=False, soft_wrap=True)
    if made.split is not None:
        console.print(f"Split    {made.split}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Page     {made.page}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Folder   {made.folder}", highlight=False, markup=False, soft_wrap=True)
    return OK


@app.command(sort_key=6)
def predict(
    run: Annotated[Path, Parameter(help="A run's folder.")],
    images: Annotated[
        list[str], Parameter(help="Image files, folders, or patterns in quotes.", negative="")
    ],
    *,
    output: Annotated[Path, Parameter(help="CSV file: path, class, probability.")],
    device: DeviceName = "auto",
) -> int:
    """Name the class of every image, in the order given."""
    from .console import StageWatcher
    from .training import resolve_device
    from .workflow import predict as run_prediction

    console, errors = Console(), Console(stderr=True)
    with StageWatcher(console) as watcher:
        made = run_prediction(
            run, images, output, device=resolve_device(device), progress=watcher.reading
        )
    for name, reason in made.unreadable.items():
        errors.print(f"normlab: {name} {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{made.rows:,} rows in {made.output}", highlight=False, markup=False, soft_wrap=True
    )
    return PARTLY if made.unreadable else OK


@app.command(sort_key=7)
def export(
    run: Annotated[Path, Parameter(help="A run's folder.")],
    *,
    onnx: Annotated[
        bool,
        Parameter(negative="", help="ONNX, verified with onnxruntime on real images."),
    ] = False,
    output: Annotated[Path | None, Parameter(help="The file. [default: RUN/model.onnx]")] = None,
    images: Annotated[
        list[str] | None,
        Parameter(help="Images to verify it on. [default: the run's test images]", negative=""),
    ] = None,
) -> int:
    """Hand a model on in another format."""
    from .workflow import export as run_export

    if not onnx:
        raise InputError("say which format: --onnx")
    made = run_export(run, onnx=output, images=images)
    Console().print(str(made), highlight=False, markup=False, soft_wrap=True)
    return OK


@app.command(sort_key=8)
def inspect(run: Annotated[Path, Parameter(help="A run's folder: STUDY/runs/ARM/seed-K.")]) -> int:
    """List the normalization at each site of a trained model."""
    from rich.table import Table

    from .models import check_sites, load_card, load_model

    model = load_model(run)
    try:
        found = check_sites(model, model.norm)
    except ValueError as error:
        raise InputError(f"{run}: {error}") from error
    table = Table("site", "channels", "layer", title=f"{run}", title_justify="left")
    for site in found:
        table.add_row(site.name, str(site.channels), site.detail)
    console = Console()
    console.print(table)
    parameters = sum(p.numel() for p in model.parameters())
    for name, value in _card_lines(load_card(run)):
        console.print(f"{name:<13}{value}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{6 * model.n + 2} layers, {parameters:,} parameters; all {len(found)} sites carry "
        f"{model.norm}, and no normalization stands elsewhere.",
        highlight=False,
        soft_wrap=True,
    )
    return OK


@app.command(sort_key=9)
def norms(
    *,
    markdown: Annotated[
        bool, Parameter(negative="", help="Print the catalogue as Markdown (docs/norms.md).")
    ] = False,
) -> int:
    """Print the catalogue of normalizations: formula, axes, state, options, source."""
    from .norms import CATALOG
    from .norms.describe import as_markdown, facts

    if markdown:
        sys.stdout.write(as_markdown())
        return OK
    console = Console()
    for spec in CATALOG.values():
        console.print(f"[bold]{spec.name}[/bold]  {spec.title}", highlight=False)
        for name, value in facts(spec).items():
            console.print(f"    {name:<14}", value, markup=False, highlight=False, soft_wrap=True)
        console.print()
    return OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    errors = Console(stderr=True)
    return _guarded(
        lambda: app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        ),
        errors,
    )


def _guarded(call: Callable[[], Any], errors: Console) -> int:
    try:
        status = call()
    except (InputError, cyclopts.CycloptsError) as error:
        errors.print(f"normlab: {error}", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of a pipe has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        errors.print(f"normlab: {where}{error.strerror}", markup=False, highlight=False)
        return BAD_INPUT
    except KeyboardInterrupt:
        errors.print(
            "normlab: stopped; for a study or a run the same command goes on from here",
            highlight=False,
        )
        return INTERRUPTED
    return status if isinstance(status, int) else OK


def _given(options: Any) -> dict[str, Any]:
    """The options that were given; a list of one value is that value."""
    if options is None:
        return {}
    given = {k: v for k, v in dataclasses.asdict(options).items() if v is not None}
    return {k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in given.items()}


def _card_lines(card: dict[str, Any]) -> list[tuple[str, str]]:
    """A model's card, a line each; what a card of another kind lacks is left out."""
    data, metrics = card.get("data", {}), card.get("metrics", {})
    images = ", ".join(f"{count:,} {split}" for split, count in data.get("images", {}).items())
    reached = ", ".join(
        f"{split} {100 * found['accuracy']:.2f} %" for split, found in metrics.items()
    )
    lines = [
        ("Arm", f"{card['arm']}, seed {card.get('seed')}" if "arm" in card else ""),
        ("Data", f"{data.get('name')}: {images}; fingerprint {data.get('fingerprint')}"
                 if data else ""),
        ("Accuracy", f"{reached} (epoch {card.get('chosen_epoch')})" if metrics else ""),
        ("Made by", str(card.get("command", ""))),
    ]  # fmt: skip
    return [(name, value) for name, value in lines if value]


def _listed(text: str | None, separator: str) -> list[str] | None:
    if text is None:
        return None
    return [part for part in (piece.strip() for piece in text.split(separator)) if part]


def _command_line() -> str:
    return shlex.join(["normlab", *sys.argv[1:]])


def _print_results(console: Console, results: Any, report: Any) -> None:
    from .report import terminal

    console.print()
    console.print(terminal.table(results, console.width))
    console.print()
    for line in terminal.verdict_lines(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in terminal.finding_lines(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nPage     {report.html}", highlight=False, soft_wrap=True)
    console.print(f"Folder   {results.folder}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
