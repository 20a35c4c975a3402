"""The trainer's command line: `python -m services.trainer --help`."""

import argparse
import sys

from services.trainer.commands import data, judging, shipping, training
from services.trainer.detector import commands as detector
from shared.errors import MienError


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after an error line that says what to do."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except MienError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a file that may not be read
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(
            f"error: The package {error.name} is missing. `make trainer` installs what the trainer needs; a "
            f"KERAS_BACKEND other than tensorflow needs its own package: `pip install {error.name}`.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        resumes = "; the same command resumes from the last whole epoch" if hasattr(options, "resumes") else ""
        print(f"\nstopped{resumes}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.trainer", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for wing in (data, training, judging, shipping):
        wing.add_commands(subcommands)
    own = subcommands.add_parser("detector", help="our own face detector: prepare, train, evaluate, export")
    detector.add_commands(own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
