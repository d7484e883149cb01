"""The command line: verbs, arguments, exit status. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import cyclopts
from cyclopts import App, Parameter
from rich.console import Console

from . import __version__, stopping
from .arguments import DATA, RECIPE, VERDICT, given, options_class, options_of
from .data.config import DataConfig
from .destinations import is_standard_output
from .errors import InputError
from .launch import UnheardError, is_follower, is_one_of_several, refuse_several
from .pages.words import listed
from .places import cache_folder
from .runs import FIELDS, RunConfig
from .studies.machines import MACHINES_FIELDS, Machines
from .studies.request import (
    DATA_FIELDS,
    KEEPING_FIELDS,
    OF_THE_MACHINE,
    REQUEST_FIELDS,
    SETTINGS,
    Keeping,
    Request,
)

OK, BAD_INPUT, PARTLY = 0, 2, 3
"""Exit statuses; PARTLY: done, but for what was named, such as images that cannot be read or runs
whose process died each time. After a signal it is 128 and the signal's number."""
RESUMED = ("compare", "train")
"""The commands that go on from where they were stopped."""

app = App(
    name="normlab",
    version=__version__,
    help=(
        "Compare normalization layers in convolutional networks, honestly.\n\n"
        "An arm is one of the things compared, such as batch normalization. A run is one arm "
        "trained with one seed; RUN is its folder, STUDY/runs/ARM/seed-K. A study is the runs of a "
        "comparison and their report; STUDY is its folder.\n\n"
        "Begin with: normlab compare --data PHOTOS"
    ),
    help_on_error=False,
    suppress_keyboard_interrupt=False,  # main() says how to resume
)

_SOURCE_HELP = f"{DATA_FIELDS['source'].metadata['help']} [default: digits]"
_OF_DATA = {name: f for name, f in DATA_FIELDS.items() if name != "source"}
_CHECKED = {
    name: DATA_FIELDS[name] for name in ("image_size", "resize", "split", "split_seed", "group_by")
}
_OF_RUN = {name: f for name, f in FIELDS.items() if name not in (*OF_THE_MACHINE, "processes")}
_JUDGED = ("reference", "margin", "target", "until_decided", "tune", "tune_seeds")

if TYPE_CHECKING:
    CompareOptions: TypeAlias = Any
    TrainOptions: TypeAlias = Any
    CheckOptions: TypeAlias = Any
else:
    CompareOptions = options_class(
        "CompareOptions",
        [
            *options_of(
                Request, {k: REQUEST_FIELDS[k] for k in ("arms", "seeds", "title", "trust")}
            ),
            *options_of(DataConfig, _OF_DATA, DATA),
            *options_of(Request, {"clean_split": REQUEST_FIELDS["clean_split"]}, DATA),
            *options_of(Request, {k: REQUEST_FIELDS[k] for k in _JUDGED}, VERDICT),
            *options_of(RunConfig, SETTINGS, RECIPE, several=True),
            *options_of(Keeping, KEEPING_FIELDS),
            *options_of(Machines, MACHINES_FIELDS),
        ],
    )
    TrainOptions = options_class(
        "TrainOptions",
        [
            *options_of(DataConfig, _OF_DATA, DATA),
            *options_of(RunConfig, _OF_RUN, RECIPE),
            *options_of(Keeping, KEEPING_FIELDS),
        ],
    )
    CheckOptions = options_class("CheckOptions", options_of(DataConfig, _CHECKED, DATA))

Run = Annotated[Path, Parameter(help="A run's folder: STUDY/runs/ARM/seed-K.")]
Data = Annotated[str | None, Parameter(group=DATA, help=_SOURCE_HELP)]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="Where to run.")]
KernelsName = Annotated[
    Literal["auto", "torch", "compiled"],
    Parameter(help=FIELDS["kernels"].metadata["help"], group=RECIPE),
]
Repair = Annotated[
    bool,
    Parameter(negative="", help="Move what is damaged to the folder damaged, and make it again."),
]
Flatten = Parameter(name="*")
Trust = Annotated[
    bool,
    Parameter(
        negative="",
        help="Import the module that the model names, if its layer is not part of normlab. This "
        "runs that module's code.",
    ),
]


@app.command(sort_key=1)
def compare(
    what: Annotated[str, Parameter(help=REQUEST_FIELDS["what"].metadata["help"])] = "norms",
    *,
    data: Data = None,
    options: Annotated[CompareOptions | None, Flatten] = None,
    out: Annotated[
        Path | None, Parameter(help="The study's folder. [default: a dated one under studies/]")
    ] = None,
    workers: Annotated[
        int | None,
        Parameter(
            help="Runs side by side. Does not change results. [default: all cores, of this machine "
            "or of the cluster]"
        ),
    ] = None,
    device: DeviceName = "auto",
    kernels: KernelsName = "auto",
    dry_run: Annotated[
        bool, Parameter(negative="", help="Print what would be run and how long it would take.")
    ] = False,
    repair: Repair = False,
    open_page: Annotated[
        bool, Parameter(name="--open", negative="", help="Open the page when it is done.")
    ] = False,
) -> int:
    """Compare normalizations on your images: a table, verdicts and a page.

    With no arguments: seven normalizations (arms) on the embedded digits, each trained once per
    seed. Every such training is a run.

    Ctrl-C stops once the runs under way are saved; a second one stops at once. The same command
    resumes: runs that are complete are kept, and one that was stopped goes on from its last
    checkpoint. More arms or seeds join the same study.
    """
    from .console import ConsoleWatcher, print_comparison
    from .workflow import compare as run_comparison

    console = Console()
    with ConsoleWatcher(console) as watcher:
        outcome = run_comparison(
            what,
            data,
            out=out,
            workers=workers,
            device=device,
            kernels=kernels,
            dry_run=dry_run,
            repair=repair,
            watcher=watcher,
            call=_command_line(),
            **given(options),
        )
    page = print_comparison(console, outcome)
    if open_page and page is not None:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
    failed = getattr(outcome, "failed", ())  # an estimate has none
    if failed:
        said = "; ".join(failed)
        _say(Console(stderr=True), f"Run the same command to try again what failed: {said}.")
        return PARTLY
    return OK


@app.command(sort_key=2)
def train(
    *,
    data: Data = None,
    options: Annotated[TrainOptions | None, Flatten] = None,
    out: Annotated[
        Path | None, Parameter(help="The run's folder. [default: a dated one under runs/]")
    ] = None,
    device: DeviceName = "auto",
    kernels: KernelsName = "auto",
    repair: Repair = False,
) -> int:
    """Make a single run: one normalization, one seed.

    Ctrl-C stops once the run is saved; a second one stops at once. The same command resumes.
    """
    from .console import RunWatcher, print_run
    from .workflow import train_one

    asked = {**given(options), **({} if data is None else {"source": data})}
    console = Console(quiet=is_follower())
    with RunWatcher(console) as watcher:
        made = train_one(
            {name: value for name, value in asked.items() if name in DATA_FIELDS},
            {name: value for name, value in asked.items() if name in FIELDS},
            out,
            device=device,
            kernels=kernels,
            repair=repair,
            reading=watcher.reading,
            progress=watcher.advanced,
            keeping=Keeping(**{k: v for k, v in asked.items() if k in KEEPING_FIELDS}),
        )
    print_run(console, made)
    return OK


@app.command(sort_key=3)
def report(
    *studies: Annotated[Path, Parameter(help="Folders that compare wrote.")],
    all_pairs: Annotated[
        bool,
        Parameter(
            negative="", help="Compare every two arms too, not only each with the reference."
        ),
    ] = False,
    target: Annotated[
        float | None,
        Parameter(
            help="A validation accuracy in percent: say after how long runs reach it. [default: "
            "the study's, or chosen from the runs of the reference]"
        ),
    ] = None,
) -> int:
    """Write the tables, charts and page of studies again from their runs."""
    from .console import print_reports
    from .workflow import report as write_reports

    print_reports(Console(), write_reports(studies, all_pairs=all_pairs, target=target))
    return OK


@app.command(sort_key=3)
def mcnemar(
    first: Annotated[Path, Parameter(help="A run's folder: STUDY/runs/ARM/seed-K.")],
    second: Annotated[Path, Parameter(help="Another run's folder.")],
    *,
    split: Annotated[Literal["val", "test"], Parameter(help="Of which images.")] = "test",
) -> int:
    """Compare two trained models on the same images, with McNemar's exact test.

    It says which of two models is right more often. It says nothing about the methods that made
    them: for that, compare arms over seeds.
    """
    from .console import print_mcnemar
    from .workflow import compare_models

    print_mcnemar(Console(), compare_models(first, second, split=split))
    return OK


@app.command(sort_key=4)
def explain(
    run: Annotated[
        Path,
        Parameter(
            help="A run's folder (STUDY/runs/ARM/seed-K), or that of a study to see its arms side "
            "by side."
        ),
    ],
    *,
    data: Data = None,
    split: Annotated[
        Literal["train", "val", "test"], Parameter(help="Which images to choose from.")
    ] = "val",
    classes: Annotated[
        list[str] | None,
        Parameter(
            help="Class names, separated by commas. A name may have commas itself, and the option "
            "may be repeated. [default: all]",
            allow_leading_hyphen=True,
            negative="",
        ),
    ] = None,
    right: Annotated[int, Parameter(help="Correctly classified images per class.")] = 5,
    wrong: Annotated[int, Parameter(help="Misclassified images per class.")] = 5,
    method: Annotated[
        Literal["grad-cam", "hires-cam", "cam", "grad-cam++", "layer-cam", "score-cam"],
        Parameter(help="How the map is made."),
    ] = "grad-cam",
    site: Annotated[
        str,
        Parameter(
            help="last: the end of the last convolution's stage; mean: over the 2n activations of "
            "the 6n+2 network's last stage; or a module of the network, such as stages.1.0.relu2."
        ),
    ] = "last",
    arms: Annotated[
        list[str] | None,
        Parameter(help="Of a study: arms, in the same way. [default: all]", negative=""),
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
    trust: Trust = False,
) -> int:
    """Show what a model looks at: maps over correctly and wrongly classified images."""
    from .console import StageWatcher, print_explanation
    from .workflow import explain as run_explanation

    console = Console()
    with StageWatcher(console) as watcher:
        made = run_explanation(
            run,
            data=data,
            split=split,
            classes=classes,
            right=right,
            wrong=wrong,
            method=method,
            site=site,
            arms=arms,
            seed=seed,
            faithfulness=faithfulness,
            randomization=randomization,
            out=out,
            trust=trust,
            progress=watcher.reading,
        )
    print_explanation(console, made)
    return OK


@app.command(name="check-data", sort_key=5)
def check_data(
    source: Annotated[str, Parameter(help=DATA_FIELDS["source"].metadata["help"])] = "digits",
    *,
    options: Annotated[CheckOptions | None, Flatten] = None,
    write_split: Annotated[
        str | None,
        Parameter(help="Write a clean split here: all images of one photograph in one split."),
    ] = None,
    test: Annotated[
        Literal["auto", "keep", "redraw"],
        Parameter(
            help="The test split of the written split. auto: kept if it shares no photograph with "
            "the others; keep: kept in any case, and its copies are left out elsewhere; redraw: "
            "all splits are drawn again."
        ),
    ] = "auto",
    drop_conflicts: Annotated[
        bool,
        Parameter(negative="", help="Leave images that appear under two labels out of it."),
    ] = False,
    decisions: Annotated[
        Path | None,
        Parameter(
            help="What you decided about pairs: a table from the page, or pairs.csv with its "
            "column decision filled in. It holds for this source from then on, in compare too."
        ),
    ] = None,
    quick: Annotated[
        bool,
        Parameter(
            negative="",
            help="Only what takes seconds: exact copies, balance, names, health. Near copies and "
            "most shortcuts are left out.",
        ),
    ] = False,
    limit_per_class: Annotated[
        int | None,
        Parameter(
            help="Check a sample of at most this many training images per class, and as large a "
            "share of val and test. Says nothing about the whole set."
        ),
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="The report's folder. [default: a dated one under checks/]")
    ] = None,
    workers: Annotated[
        int | None, Parameter(help="Processes that read images. [default: all cores]")
    ] = None,
) -> int:
    """Check images before training: copies, leaks between splits, shortcuts, balance, health."""
    from .console import StageWatcher, print_check
    from .workflow import check_data as run_check

    console = _console_beside(write_split)
    with StageWatcher(console) as watcher:
        made = run_check(
            source,
            write_split=write_split,
            test=test,
            drop_conflicts=drop_conflicts,
            decisions=decisions,
            quick=quick,
            limit_per_class=limit_per_class,
            out=out,
            workers=workers,
            command=_command_line(),
            progress=watcher.reading,
            **given(options),
        )
    print_check(console, made)
    return OK


@app.command(sort_key=6)
def predict(
    run: Run,
    images: Annotated[
        list[str], Parameter(help="Image files, folders, or patterns in quotes.", negative="")
    ],
    *,
    output: Annotated[
        Path, Parameter(help="CSV file: path, class, probability. /dev/stdout prints it.")
    ],
    probabilities: Annotated[
        bool,
        Parameter(negative="", help="Add a column with the probability of every class."),
    ] = False,
    device: DeviceName = "auto",
    trust: Trust = False,
) -> int:
    """Predict the class of every image, in the order given.

    Images that cannot be read or predicted are named and left out; the status is then 3.
    """
    from .console import StageWatcher, print_predictions
    from .workflow import predict as run_prediction

    console = _console_beside(output)
    with StageWatcher(console) as watcher:
        made = run_prediction(
            run,
            images,
            output,
            probabilities=probabilities,
            device=device,
            trust=trust,
            progress=watcher.reading,
        )
    print_predictions(console, Console(stderr=True), made)
    return PARTLY if made.unreadable else OK


@app.command(sort_key=7)
def export(
    run: Run,
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
    trust: Trust = False,
) -> int:
    """Export a model to another format."""
    from .console import print_line
    from .workflow import export as run_export

    if not onnx:
        raise InputError("Choose a format: --onnx.")
    made = run_export(run, onnx=output, images=images, trust=trust)
    print_line(_console_beside(output), str(made))
    return OK


NewModel = Annotated[
    Path, Parameter(name="--out", help="A folder for the new model, which does not exist yet.")
]


@app.command(name="import", sort_key=7)
def import_(
    model: Annotated[
        str,
        Parameter(
            help="The network: package.module:factory, timm:NAME or torchvision:NAME, with options "
            "after colons. Its code is run."
        ),
    ],
    *,
    weights: Annotated[
        Path,
        Parameter(
            help="A file with its state dict: .safetensors, or .pth, which is read as tensors "
            "alone."
        ),
    ],
    out: NewModel,
    data: Data = None,
    options: Annotated[CheckOptions | None, Flatten] = None,
    weights_least: Annotated[
        float | None, Parameter(help=FIELDS["weights_least"].metadata["help"] + " [default: 0.9]")
    ] = None,
) -> int:
    """Make a model of a trained network of your own, which all other commands read.

    Its accuracy on the validation images is printed: if it is not what you know of the network,
    pixels, classes or their order are not those that it was trained with.
    """
    from .console import StageWatcher, print_line
    from .workflow import import_model

    console = Console()
    asked = {**given(options), **({} if data is None else {"source": data})}
    with StageWatcher(console) as watcher:
        made = import_model(
            model, weights, asked, out, least=weights_least, progress=watcher.reading
        )
    for sentence in made.said:
        print_line(console, sentence)
    print_line(console, f"Validation accuracy {100 * made.accuracy:.2f} %.")
    print_line(console, f"Model: {made.folder}")
    return OK


@app.command(sort_key=7)
def convert(
    run: Run,
    *,
    to: Annotated[str, Parameter(help="The normalization, such as gn:groups=8.")],
    out: Annotated[Path, Parameter(help="The new model's folder.")],
    data: Annotated[
        str | None,
        Parameter(help="Images to convert it on, their training split. [default: the run's data]"),
    ] = None,
    how: Annotated[
        Literal["distilled", "distilled_all", "matched", "copied", "fresh"],
        Parameter(
            help="Where weights and biases come from if no layer computes the same: what the model "
            "answers on images (distilled; with distilled_all, its other weights are trained too), "
            "what the old layer does on them, the old layer, or nowhere."
        ),
    ] = "distilled",
    trust: Trust = False,
) -> int:
    """Put another normalization into a trained model, and say what that changes."""
    from .console import print_line
    from .workflow import convert_run

    made = convert_run(run, to, out, data=data, how=how, trust=trust)
    print_line(Console(), str(made))
    print_line(Console(), f"Model: {out}")
    return OK


@app.command(sort_key=7)
def recalibrate(
    run: Run,
    *,
    out: NewModel,
    data: Annotated[
        str | None,
        Parameter(
            help="Images in place of the run's own: digits or a folder. [default: the run's data]"
        ),
    ] = None,
    batch_size: Annotated[int, Parameter(help="Images by which layers normalize meanwhile.")] = 256,
    device: DeviceName = "auto",
    trust: Trust = False,
) -> int:
    """Take running statistics anew, of all training images, with the weights as they are.

    Writes a new model. predict, explain, inspect and export take its folder.
    """
    from .console import StageWatcher, print_line
    from .workflow import recalibrate_run

    console = Console()
    with StageWatcher(console) as watcher:
        made = recalibrate_run(
            run,
            out,
            data=data,
            batch_size=batch_size,
            device=device,
            trust=trust,
            progress=watcher.reading,
        )
    for line in (f"{made.folder}: {made.norm}", *made.said):
        print_line(console, line)
    return OK


@app.command(sort_key=7)
def freeze(
    run: Run,
    *,
    out: NewModel,
    trust: Trust = False,
) -> int:
    """Freeze the batch normalization of a model: it stays as it is in evaluation.

    Writes a new model of the arm frozen_bn. predict, explain, inspect and export take its folder.
    """
    from .console import print_line
    from .workflow import freeze_run

    made = freeze_run(run, out, trust=trust)
    for line in (f"{made.folder}: {made.norm}", *made.said):
        print_line(Console(), line)
    return OK


@app.command(sort_key=7)
def fold(
    run: Run,
    *,
    out: NewModel,
    passes: Annotated[int, Parameter(help="Passes of each network that are timed.")] = 20,
    trust: Trust = False,
) -> int:
    """Fold the normalization of a model into its convolutions, and measure the speed gained.

    Writes a new model. predict, explain, inspect and export take its folder.
    """
    from .console import print_line
    from .workflow import fold_run

    made = fold_run(run, out, passes=passes, trust=trust)
    for line in (f"{made.folder}: {made.norm}", *made.said):
        print_line(Console(), line)
    return OK


@app.command(sort_key=8)
def inspect(
    run: Run,
    *,
    trust: Trust = False,
) -> int:
    """List the normalization at each site of a trained model."""
    from .console import print_inspection
    from .workflow import inspect as look_at

    print_inspection(Console(), look_at(run, trust=trust))
    return OK


@app.command(sort_key=9)
def norms(
    name: Annotated[
        str | None, Parameter(help="A method of the table, to see all that is known of it.")
    ] = None,
    /,
    *,
    markdown: Annotated[
        bool, Parameter(negative="", help="Print it as Markdown (docs/norms.md).")
    ] = False,
    pictures: Annotated[
        Path | None, Parameter(help="Write a picture of every method into this folder, as SVG.")
    ] = None,
) -> int:
    """Print the catalogue of normalizations: what each pools, its cost and year; or one method.

    With NAME: the formula, a picture, options, state, what stands where in a network, cost, when
    it fails, the paper.
    """
    from .console import print_norm, print_norms
    from .workflow.catalogue import as_markdown, named, section, write_pictures

    spec = None if name is None else named(name)
    if pictures is not None:
        write_pictures(pictures)
    if markdown:
        sys.stdout.write(as_markdown() if spec is None else section(spec))
    elif spec is not None:
        print_norm(Console(), spec)
    elif pictures is None:
        print_norms(Console())
    return OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    from .console import lasting_output

    errors = Console(stderr=True, quiet=is_follower())
    words = sys.argv[1:] if arguments is None else list(arguments)

    def run() -> Any:
        if words and words[0] != "train" and not words[0].startswith("-"):
            refuse_several(words[0])
        return app(words, exit_on_error=False, print_error=False, result_action="return_value")

    with stopping.handled(), lasting_output() as lost, _torch_in_our_cache():
        status = _guarded(run, errors, words)
    if lost and status == OK:
        _say(errors, f"The work is done, but not all of its output was shown: {lost[0].strerror}.")
        return PARTLY
    return status


@contextmanager
def _torch_in_our_cache() -> Iterator[None]:
    """torch makes a folder for its compiler in that for temporary files, even if nothing is
    compiled. A command writes nothing outside our cache that was not asked for."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    if name in os.environ:
        yield
        return
    with suppress(InputError):  # who needs the cache will say what is wrong with it
        os.environ[name] = str(cache_folder("torch"))
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _guarded(call: Callable[[], Any], errors: Console, words: Sequence[str]) -> int:
    try:
        status = call()
    except cyclopts.UnusedCliTokensError as error:
        _say(errors, _too_many(error))
        return BAD_INPUT
    except UnheardError as error:
        _say(Console(stderr=True), str(error))
        return BAD_INPUT
    except (InputError, cyclopts.CycloptsError) as error:
        _say(errors, str(error) + _hint(str(error)))
        return BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(errors, f"{where}{error.strerror or error}.")
        return BAD_INPUT
    except MemoryError:
        _say(errors, "There is not enough memory.")
        return BAD_INPUT
    except KeyboardInterrupt as stopped:
        what = "To resume" if words and words[0] in RESUMED else "To start again"
        how = f"run: {shlex.join(['normlab', *words])}"
        if is_one_of_several():
            how = "give the same torchrun command."
        _say(errors, f"Stopped. {what}, {how}")
        return getattr(stopped, "status", 128 + signal.SIGINT)
    return status if isinstance(status, int) else OK


def _too_many(error: cyclopts.UnusedCliTokensError) -> str:
    """What to do with words that a verb does not take."""
    chain = " ".join(error.command_chain or ["normlab"])
    words = error.unused_tokens or []
    many = "s" if len(words) > 1 else ""
    # What takes none takes no further one either, but nobody says so.
    further = "" if chain == "train" else "further "
    said = f"{chain} takes no {further}argument{many} {listed(map(repr, words))}."
    if chain in ("compare", "train") and len(words) == 1:
        said += f" Give the data with --data {shlex.quote(words[0])}."
    return said


def _console_beside(output: str | Path | None) -> Console:
    """Where words go: a file that goes to standard output is not mixed with them."""
    return Console(stderr=output is not None and is_standard_output(output))


def _say(errors: Console, text: str) -> None:
    from .console import print_line

    print_line(errors, f"normlab: {text}")


def _hint(message: str) -> str:
    """What to do where names look broken because this process takes them for ASCII."""
    broken = re.search(r"\\udc[89a-f]|[\udc80-\udcff]", message)
    if sys.getfilesystemencoding() == "utf-8" or not broken:
        return ""
    return " Here, names are read as ASCII. To read them as UTF-8, set the variable PYTHONUTF8=1."


def _command_line() -> str:
    """As a study keeps it: to repair is nothing that is asked of it."""
    return shlex.join(["normlab", *(word for word in sys.argv[1:] if word != "--repair")])


if __name__ == "__main__":
    sys.exit(main())
