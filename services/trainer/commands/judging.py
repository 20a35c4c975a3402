"""Commands that measure: `evaluate`, `report`, `robustness`, `steadiness`, `groups`, `baselines` and `compare`."""

import argparse
from pathlib import Path

from services.trainer.commands.arguments import Subcommands, add_data, add_detector, analyzer_of, new_file, new_folder
from services.trainer.commands.backend import load_backend


def add_commands(subcommands: Subcommands) -> None:
    """Every command of this file."""
    _add_evaluate(subcommands)
    _add_report(subcommands)
    _add_robustness(subcommands)
    _add_steadiness(subcommands)
    _add_groups(subcommands)
    _add_baselines(subcommands)
    _add_compare(subcommands)


def _add_evaluate(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("evaluate", help="score a run or a model directory")
    parser.add_argument("target", type=Path, help="work directory of a run, or model directory")
    add_data(parser)
    parser.add_argument("--split", choices=("train", "validation", "test"), help="only this one (validation and test)")
    parser.add_argument(
        "--flip",
        action="store_true",
        help="average each face with its mirror image, as MIEN_FLIP does; a model that reads both gains nothing",
    )
    parser.add_argument(
        "--out", type=new_file, help="JSON to write (evaluation.json in the work directory, for both splits)"
    )
    parser.set_defaults(run=_run_evaluate)


def _run_evaluate(options: argparse.Namespace) -> None:
    load_backend()
    from services.trainer.data.dataset import SPLITS, Dataset
    from services.trainer.judging.evaluate import as_text, evaluate, write_evaluation
    from services.trainer.judging.tables import score_table
    from services.trainer.training.predictors import mirrored, open_predictor, with_default_prior
    from shared.choices import Choices
    from shared.manifest import MANIFEST_FILE, load_manifest

    data, splits = Dataset.load(options.data), [options.split] if options.split else SPLITS[1:]
    predict = open_predictor(options.target)
    predict = mirrored(predict) if options.flip else predict
    results = evaluate(predict, data, splits)
    print(as_text(results))
    if (options.target / MANIFEST_FILE).exists():
        manifest = load_manifest(options.target)
        if manifest.default_prior.kind != "natural":
            weighed = evaluate(with_default_prior(predict, Choices.of(manifest)), data, splits)
            print(f"\n{manifest.default_answer}, {manifest.default_prior.kind} prior, which is the default:\n")
            print(score_table(weighed).as_text())
    # Beside a run stands only what is whole: both splits, read as the model reads.
    whole = (options.target / "run.json").exists() and not options.flip and not options.split
    out = options.out or (options.target / "evaluation.json" if whole else None)
    if out:
        write_evaluation(results, out, data)
        print(f"\nwritten: {out}")


def _add_report(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("report", help="write report.html: scores, curves, faces, calibration, robustness")
    parser.add_argument("target", type=Path, help="work directory of a run, or model directory")
    add_data(parser)
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="(%(default)s)")
    parser.add_argument("--out", type=new_folder, required=True, help="folder to write")
    parser.set_defaults(run=_run_report)


def _run_report(options: argparse.Namespace) -> None:
    load_backend()
    from services.trainer.data.dataset import Dataset
    from services.trainer.judging.report import report

    print(f"written: {report(options.target, Dataset.load(options.data), options.out, options.split)}")


def _add_robustness(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("robustness", help="accuracy when pictures get worse")
    parser.add_argument("targets", type=Path, nargs="+", help="work directories or model directories")
    add_data(parser)
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(%(default)s)")
    parser.add_argument("--card", action="store_true", help="write the table into these model directories' cards")
    parser.add_argument("--out", type=new_file, default="robustness", help="stem of .json and .png (%(default)s)")
    parser.set_defaults(run=_run_robustness)


def _run_robustness(options: argparse.Namespace) -> None:
    load_backend()
    import json
    from dataclasses import asdict

    from services.trainer import plots
    from services.trainer.data.dataset import Dataset
    from services.trainer.errors import DataError
    from services.trainer.judging.card import add_measured
    from services.trainer.judging.compare import distinct_names
    from services.trainer.judging.robustness import as_markdown, harms_by_answer, robustness
    from services.trainer.training.predictors import open_predictor
    from shared.atomic import write_text
    from shared.manifest import load_manifest

    data = Dataset.load(options.data)
    if options.card:
        for target in options.targets:  # told now, not after the measurement
            if load_manifest(target).training.data_sha256 != data.sha256:
                raise DataError(f"{target} was trained on other data; its card gives figures on that alone.")
    names = distinct_names(options.targets)
    results = {name: robustness(open_predictor(target), data, options.split) for name, target in names.items()}
    for name, result in results.items():
        print("\n".join([f"## {name}", *as_markdown(result), ""]))
        if options.card:
            add_measured(names[name], result)
    kept = {name: asdict(result) for name, result in results.items()}
    write_text(options.out.with_suffix(".json"), json.dumps(kept, indent=1) + "\n")
    plots.save(plots.robustness_curves(harms_by_answer(results)), options.out.with_suffix(".png"))
    print(f"written: {options.out.with_suffix('.json')}, {options.out.with_suffix('.png')}")


def _add_steadiness(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("steadiness", help="how much the answer moves when photos hardly change")
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("photos", type=Path, help="folder or .zip of photos of people")
    add_detector(parser)
    parser.set_defaults(run=_run_steadiness)


def _run_steadiness(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.photos import read_photos
    from services.trainer.judging.card import add_measured
    from services.trainer.judging.steadiness import steadiness, steadiness_table

    analyzer = analyzer_of(options)
    result = steadiness(analyzer, tqdm(read_photos(options.photos), unit="photo"))
    print(f"{result.answer} through {result.detector}, {result.photos} photos with a face")
    print(steadiness_table(result).as_text())
    if options.card:
        add_measured(options.model, result)
        print(f"written: the card and the manifest of {options.model}")


def _add_groups(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("groups", help="what a model does on photos of different groups of people")
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("images", type=Path, help="folder or .zip of photos of people")
    parser.add_argument("table", help="CSV, by itself or among the images: file, columns to group by, perhaps emotion")
    parser.add_argument("--name", help="what the card calls the images (their folder's or archive's name)")
    add_detector(parser)
    parser.set_defaults(run=_run_groups)


def _run_groups(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.photos import read_photos, read_table
    from services.trainer.judging.card import add_measured
    from services.trainer.judging.groups import group_table, groups

    table = read_table(options.images, options.table)
    analyzer = analyzer_of(options)
    name = options.name or options.images.stem
    result = groups(analyzer, tqdm(read_photos(options.images), unit="photo"), table, name)
    print(group_table(result).as_text())
    if options.card:
        add_measured(options.model, result)
        print(f"written: the card and the manifest of {options.model}")


def _add_baselines(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("baselines", help="majority class, HOG and LBP with SVM on the same splits")
    add_data(parser)
    parser.add_argument("--out", type=new_file, default="baselines.json", help="JSON to write (%(default)s)")
    parser.set_defaults(run=_run_baselines)


def _run_baselines(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.judging import baselines
    from services.trainer.judging.compare import compare, write_named

    data = Dataset.load(options.data)
    write_named(baselines.run_baselines(data), options.out, data)
    print("\n".join(compare([options.out]).as_markdown()))
    print(f"written: {options.out}")


def _add_compare(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("compare", help="runs, models and baselines side by side")
    parser.add_argument("paths", type=Path, nargs="+", help="work or model directories, JSON of evaluate or baselines")
    parser.set_defaults(run=_run_compare)


def _run_compare(options: argparse.Namespace) -> None:
    from services.trainer.judging.compare import compare

    print("\n".join(compare(options.paths).as_markdown()))
