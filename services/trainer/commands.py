"""What each command of the command line does, and what it prints.

Each imports what it needs when it runs: `prepare` needs no Keras, and `--help` needs nothing.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.trainer.data.sources import FaceFinder
    from shared.analyzer import Analyzer

GEOMETRY: Final = Path(__file__).parent / "data/geometry.json"


def run_prepare(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.prepare import prepare

    finder = _finder(options) if options.detect else None
    report = prepare(
        options.source,
        options.votes,
        options.out,
        lambda samples: tqdm(samples, unit="image"),
        finder,
        options.name,
    )
    print(f"{report['kept']} of {report['read']} images kept; left out: {report['left_out_by_reason'] or 'none'}")
    print(
        f"written: {options.out}, {options.out.with_suffix('.report.json')}, {options.out.with_suffix('.classes.png')}"
    )


def _finder(options: argparse.Namespace) -> "FaceFinder":
    from services.trainer.data.geometry import read_geometry
    from services.trainer.data.sources import FaceFinder
    from shared.assembly import DetectorFiles, open_detector

    detector = open_detector("yunet", DetectorFiles(yunet=options.yunet)) if options.yunet else open_detector("haar")
    return FaceFinder(detector, read_geometry(GEOMETRY)[detector.name])


def run_train(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.faces import Faces
    from services.trainer.training.config import load_config
    from services.trainer.training.devices import use_devices
    from services.trainer.training.teachers import Taught
    from services.trainer.training.train import Start, train
    from services.trainer.training.workdir import best_epoch

    config, data = load_config(options.config), Dataset.load(options.data)
    if options.devices:
        use_devices(options.devices, config.batch_size)
    faces = Faces.load(options.faces) if options.faces else None
    taught = Taught.load(options.taught, data, faces) if options.taught else None
    start = Start(None if options.weights == "none" else options.weights, options.init, taught, faces)
    if config.people and not data.has_votes:
        print("The data has no votes: the model gets one answer, trained on the labels alone.")
    history = train(config, data, options.workdir, start)
    best = best_epoch(history, config)
    print(f"best: epoch {best['epoch']}, validation accuracy {best['val_accuracy']:.4f}; kept in {options.workdir}")


def run_faces(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.faces import collect_faces

    faces, found = collect_faces(
        options.archive, _finder(options), options.name or options.archive.stem, lambda data: tqdm(data, unit="photo")
    )
    faces.save(options.out)
    print(
        f"{len(faces.pixels)} faces of {found.read} photos; {found.without_face} without a face, {found.damaged} damaged"
    )
    print(f"written: {options.out}")


def run_teach(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.dataset import Dataset
    from services.trainer.data.faces import Faces
    from services.trainer.training.teachers import teach

    faces = Faces.load(options.faces) if options.faces else None
    taught = teach(options.teachers, Dataset.load(options.data), faces, lambda starts: tqdm(starts, unit="chunk"))
    taught.save(options.out)
    print(f"{len(taught.train)} training faces and {len(taught.faces)} unlabeled ones; written: {options.out}")


def run_evaluate(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import SPLITS, Dataset
    from services.trainer.judging.evaluate import as_text, evaluate, write_evaluation
    from services.trainer.judging.tables import score_table
    from services.trainer.training.predictors import mirrored, open_predictor, with_default_prior
    from shared.manifest import MANIFEST_FILE, load_manifest
    from shared.pipeline.classify import Choices

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
        write_evaluation(results, out)
        print(f"\nwritten: {out}")


def run_geometry(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.geometry import measure, write_geometry
    from shared.assembly import DetectorFiles, open_detector

    detectors = [open_detector("haar")]
    if options.detector:
        detectors.append(open_detector("mien", DetectorFiles(mien=options.detector)))
    if options.yunet:
        detectors.append(open_detector("yunet", DetectorFiles(yunet=options.yunet)))
    measured = measure(detectors, Dataset.load(options.data), options.images)
    for name, detector in measured["detectors"].items():
        print(f"{name}: found {detector['found']:.1%}, median box {detector['median']}, spread {detector['spread']}")
    write_geometry(measured, options.out)
    print(f"written: {options.out}")


def run_export(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.geometry import read_geometry
    from services.trainer.judging.tables import score_table
    from services.trainer.shipping.export import export

    data, geometry = Dataset.load(options.data), read_geometry(options.geometry)
    done = export(options.workdir, data, geometry, options.out)
    temperatures = ", ".join(f"{answer.temperature} ({name})" for name, answer in done.manifest.answers.items())
    print(f"ONNX Runtime differs from Keras by {done.difference:.1e} at most; temperature {temperatures}")
    print(score_table(done.manifest.metrics).as_text())
    for kind, scores in done.priors.items():
        print(
            f"prior {kind}: accuracy {scores.accuracy:.4f}, mean recall {scores.mean_recall:.4f}, mean of both "
            f"{(scores.accuracy + scores.mean_recall) / 2:.4f} on the validation split's consensus"
        )
    print(f"default answer {done.manifest.default_answer}, default prior {done.manifest.default_prior.kind}")
    print(f"written: {options.out} (serve it with MIEN_MODEL={options.out})")


def run_quantize(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.shipping.quantize import quantize

    done = quantize(options.model, Dataset.load(options.data), options.out, options.cpu, options.max_loss)
    saved = done.comparison
    for answer, (before, after) in done.accuracy.items():
        print(f"{answer}: validation accuracy {before:.4f} in fp32, {after:.4f} in INT8")
    print(
        f"size x{saved.size_ratio:.2f}, time x{saved.time_ratio:.2f} ({saved.ms_per_face[1]:.2f} ms per face, one thread)"
    )
    print(f"weights of {'7 bits, for CPUs without VNNI' if done.reduced_range else '8 bits'}; written: {options.out}")


def run_prune(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.shipping.prune import prune

    done = prune(options.workdir, Dataset.load(options.data), options.keep, options.epochs, options.out)
    whole, cut, tuned = done.accuracy
    print(f"validation accuracy {whole:.4f} whole, {cut:.4f} cut, {tuned:.4f} fine-tuned")
    print(f"parameters {done.parameters[0]:,} to {done.parameters[1]:,}")
    saved = done.comparison
    print(
        f"size x{saved.size_ratio:.2f}, time x{saved.time_ratio:.2f} ({saved.ms_per_face[1]:.2f} ms per face, one thread)"
    )


def run_report(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.judging.report import report

    print(f"written: {report(options.target, Dataset.load(options.data), options.out, options.split)}")


def run_robustness(options: argparse.Namespace) -> None:
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


def run_steadiness(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.photos import read_photos
    from services.trainer.judging.card import add_measured
    from services.trainer.judging.steadiness import steadiness, steadiness_table

    analyzer = _analyzer(options)
    result = steadiness(analyzer, tqdm(read_photos(options.photos), unit="photo"))
    print(f"{result.answer} through {result.detector}, {result.photos} photos with a face")
    print(steadiness_table(result).as_text())
    if options.card:
        add_measured(options.model, result)
        print(f"written: the card and the manifest of {options.model}")


def run_groups(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.photos import read_photos, read_table
    from services.trainer.judging.card import add_measured
    from services.trainer.judging.groups import group_table, groups

    table = read_table(options.images, options.table)
    analyzer = _analyzer(options)
    name = options.name or options.images.stem
    result = groups(analyzer, tqdm(read_photos(options.images), unit="photo"), table, name)
    print(group_table(result).as_text())
    if options.card:
        add_measured(options.model, result)
        print(f"written: the card and the manifest of {options.model}")


def _analyzer(options: argparse.Namespace) -> "Analyzer":
    from shared.assembly import YUNET_MODEL, DetectorFiles, open_analyzer

    return open_analyzer(options.model, options.detector, DetectorFiles(yunet=options.yunet or YUNET_MODEL))


def run_baselines(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.judging import baselines
    from services.trainer.judging.compare import compare, write_named

    write_named(baselines.run_baselines(Dataset.load(options.data)), options.out)
    print("\n".join(compare([options.out]).as_markdown()))
    print(f"written: {options.out}")


def run_compare(options: argparse.Namespace) -> None:
    from services.trainer.judging.compare import compare

    print("\n".join(compare(options.paths).as_markdown()))
