"""Commands that make what ships: `export`, `quantize` and `prune`."""

import argparse
from pathlib import Path

from services.trainer.commands.arguments import GEOMETRY, Subcommands, add_data, new_folder, share
from services.trainer.commands.backend import load_backend


def add_commands(subcommands: Subcommands) -> None:
    """Every command of this file."""
    _add_export(subcommands)
    _add_quantize(subcommands)
    _add_prune(subcommands)


def _add_export(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("export", help="write model.onnx, manifest.json and card.md for the API")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    add_data(parser)
    parser.add_argument("--geometry", type=Path, default=GEOMETRY, help="measurement of geometry (shipped)")
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="read each face together with its mirror image: a steadier answer, in twice the time",
    )
    parser.add_argument("--out", type=new_folder, required=True, help="model directory to write, models/NAME")
    parser.set_defaults(run=_run_export)


def _run_export(options: argparse.Namespace) -> None:
    load_backend()
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.geometry import read_geometry
    from services.trainer.judging.provenance import ancestors
    from services.trainer.judging.tables import score_table
    from services.trainer.shipping.export import export
    from shared.emotions import EMOTIONS

    data, geometry = Dataset.load(options.data), read_geometry(options.geometry)
    done = export(options.workdir, data, geometry, options.out, options.mirror)
    print(f"ONNX Runtime differs from Keras by {done.difference:.1e} at most")
    for name, answer in done.manifest.answers.items():
        assert answer.shift is not None  # export has just fitted it
        shifts = ", ".join(f"{emotion} {shift:+.2f}" for emotion, shift in zip(EMOTIONS, answer.shift, strict=True))
        print(f"{name}: temperature {answer.temperature}, shifts {shifts}")
    print(score_table(done.manifest.metrics).as_text())
    for strength, scores in done.priors.items():
        print(
            f"prior {f'balanced, strength {strength:g}' if strength else 'natural'}: accuracy {scores.accuracy:.4f}, mean recall {scores.mean_recall:.4f}, mean of both "
            f"{(scores.accuracy + scores.mean_recall) / 2:.4f} on the validation split's consensus"
        )
    if began := ancestors(done.manifest.training):
        print(began)
    print(f"default answer {done.manifest.default_answer}, default prior {done.manifest.default_prior.kind}")
    print(f"written: {options.out} (serve it with MIEN_MODEL={options.out})")


def _add_quantize(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("quantize", help="make the INT8 model of a model directory")
    parser.add_argument("model", type=Path, help="model directory of export")
    add_data(parser)
    parser.add_argument("--out", type=new_folder, required=True, help="model directory to write")
    parser.add_argument(
        "--cpu",
        choices=("auto", "vnni", "avx2", "arm"),
        default="auto",
        help="the CPU it is meant for (auto: this one)",
    )
    parser.add_argument(
        "--max-loss", type=float, default=0.005, help="validation accuracy that any answer may lose (%(default)s)"
    )
    parser.set_defaults(run=_run_quantize)


def _run_quantize(options: argparse.Namespace) -> None:
    load_backend()
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


def _add_prune(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("prune", help="take channels out of a trained network and fine-tune it")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the trained run")
    add_data(parser)
    parser.add_argument("--keep", type=share, default=0.5, help="share of each block's inner channels (%(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="of fine-tuning (%(default)s)")
    parser.add_argument("--out", type=new_folder, required=True, help="work directory of the pruned run")
    parser.set_defaults(run=_run_prune, resumes=True)


def _run_prune(options: argparse.Namespace) -> None:
    load_backend()
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
