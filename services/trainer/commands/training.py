"""Commands that train: `teach` and `train`."""

import argparse
from pathlib import Path

from services.trainer.commands.arguments import Subcommands, add_data, count, new_file, new_folder
from services.trainer.commands.backend import load_backend


def add_commands(subcommands: Subcommands) -> None:
    """Every command of this file."""
    _add_teach(subcommands)
    _add_train(subcommands)


def _add_teach(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "teach", help="let trained models label the training faces, and faces without labels"
    )
    parser.add_argument("teachers", type=Path, nargs="+", help="work directories of runs, or model directories")
    add_data(parser)
    parser.add_argument("--faces", type=Path, help="file of faces to label as well")
    parser.add_argument("--out", type=new_file, required=True, help="file to write, for train --taught")
    parser.set_defaults(run=_run_teach)


def _run_teach(options: argparse.Namespace) -> None:
    load_backend()
    from tqdm import tqdm

    from services.trainer.data.dataset import Dataset
    from services.trainer.data.faces import Faces
    from services.trainer.judging.evaluate import own_rows
    from services.trainer.training.teachers import teach, together

    data, faces = Dataset.load(options.data), Faces.load(options.faces) if options.faces else None
    validation = data.split("validation")
    for name, said in together(options.teachers, validation.pixels).items():
        rows, right = own_rows(name, validation)
        print(f"teachers together, {name} on the validation split: {(said[rows].argmax(axis=1) == right).mean():.4f}")
    taught = teach(options.teachers, data, faces, lambda starts: tqdm(starts, unit="chunk"))
    taught.save(options.out)
    print(f"{len(taught.train)} training faces and {len(taught.faces)} unlabeled ones; written: {options.out}")


def _add_train(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("train", help="train a network; the same command resumes a run that was stopped")
    parser.add_argument("--config", type=Path, required=True, help="TOML file, see services/trainer/configs/")
    add_data(parser)
    parser.add_argument("--workdir", type=new_folder, required=True, help="folder of this run")
    parser.add_argument(
        "--init",
        type=Path,
        nargs="+",
        default=(),
        help="start from the weights of this .keras file or model directory of the same network; "
        "mien-pair: of mien-base and of mien-small",
    )
    parser.add_argument("--taught", type=Path, help="file of teach: predictions that become targets (teacher_weight)")
    parser.add_argument("--faces", type=Path, help="file of faces, which only the teachers labelled (unlabeled_share)")
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="of a network from keras.applications: imagenet (downloads), a local file, or none (%(default)s); "
        "of mobilenet-v1: EmotiEffLib's mobilenet_7.tflite, or none",
    )
    parser.add_argument("--devices", help="2 or gpu:2 spreads each batch over two GPUs (KERAS_BACKEND=jax)")
    parser.add_argument(
        "--workers", type=count, default=1, help="processes that vary the faces; a GPU needs several (%(default)s)"
    )
    parser.set_defaults(run=_run_train, resumes=True)


def _run_train(options: argparse.Namespace) -> None:
    from services.trainer.training.config import load_config

    config = load_config(options.config)  # what is wrong with it is told before Keras starts
    load_backend()
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.faces import Faces
    from services.trainer.training.devices import use_devices
    from services.trainer.training.teachers import Taught
    from services.trainer.training.train import Start, train
    from services.trainer.training.workdir import best_epoch

    data = Dataset.load(options.data)
    if options.devices:
        use_devices(options.devices, config.batch_size)
    faces = Faces.load(options.faces) if options.faces else None
    taught = Taught.load(options.taught, data, faces) if options.taught else None
    start = Start(None if options.weights == "none" else options.weights, tuple(options.init), taught, faces)
    if config.people and not data.has_votes:
        print("The data has no votes: the model gets one answer, trained on the labels alone.")
    history = train(config, data, options.workdir, start, workers=options.workers)
    best = best_epoch(history, config)
    print(f"best: epoch {best['epoch']}, validation accuracy {best['val_accuracy']:.4f}; kept in {options.workdir}")
