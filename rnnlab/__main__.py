"""The command line: `rnnlab rebuild PROFILE`, `rnnlab script PAGE`, `rnnlab store ACTION`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlab import __version__

if TYPE_CHECKING:
    from rnnlab.training.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 if a page failed, or 2 if the command was refused."""
    parser = argparse.ArgumentParser(
        prog="rnnlab", description="Re-run the book, take a page out of it, look after results."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("rebuild", help="execute every page with other parameters, and build the site")
    command.add_argument("profile", type=Path, help="folder of parameters, such as params/laptop")
    command.add_argument("--jobs", type=int, help="pages executed at a time; as many as there are cores, unless told")
    command.set_defaults(run=rebuild)
    command = commands.add_parser("script", help="print a page as plain Python, its parameters put in")
    command.add_argument("page", type=_page, help="such as book/5_experiments/temporal_order.md")
    command.add_argument("-f", "--parameters-file", type=Path, help="parameters, in YAML")
    command.add_argument("-p", "--parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    command.set_defaults(run=script)
    command = commands.add_parser("store", help="look after what trainings leave behind, and take it elsewhere")
    command.add_argument("--folder", type=Path, help="of the store; RNNLAB_STORE or the user's own, unless told")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    for action, text in (
        (list_, "say what it holds"),
        (verify, "check every sum"),
        (clean, "remove what was set aside, and what nobody needs any more"),
        (export, "write a summary, small enough for book/results/"),
        (pack, "put all of it into one archive"),
        (unpack, "take in an archive, once every sum in it is right"),
    ):
        one = actions.add_parser(action.__name__.strip("_"), help=text)
        one.set_defaults(run=action)
        if action in (export, pack, unpack):
            one.add_argument("file", type=Path)
        if action is export:
            one.add_argument("--updates", type=int, help="take only trainings of this budget")
            one.add_argument("--command", default="", help="how the trainings can be made again")
    given = parser.parse_args(arguments)
    try:
        return given.run(given)
    except (ValueError, OSError) as refusal:
        print(f"rnnlab: {refusal}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as missing:
        print(f"rnnlab: {missing}; the environment of the book has it: pip install 'rnnlab[book]'", file=sys.stderr)
        return 2


def rebuild(given: argparse.Namespace) -> int:
    """Build the site with other parameters; goes on from the pages that are finished."""
    from rnnlab.book import running

    if given.jobs is not None and given.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {given.jobs}")
    running.rebuild(Path.cwd(), given.profile, jobs=given.jobs or 0)


def _page(address: str) -> Path:
    """A page's path, also where it is written as for papermill."""
    from rnnlab.book.myst import SCHEME

    return Path(address.removeprefix(SCHEME))


def script(given: argparse.Namespace) -> int:
    """Print a page as a script."""
    from rnnlab.book import notebooks
    from rnnlab.book.script import script as written

    values = notebooks.values(given.parameters_file) if given.parameters_file else {}
    values |= {name: notebooks.value(text) for name, text in given.parameters}
    sys.stdout.buffer.write(written(given.page, values).encode())  # as Python reads it, whatever the locale
    sys.stdout.flush()
    return 0


def list_(given: argparse.Namespace) -> int:
    """Print a line for every finished and unfinished training."""
    from rnnlab.naming import called

    store = _store(given)
    if not store.files():
        print(f"{store.folder} holds no trainings" if store.folder.is_dir() else f"{store.folder} is not there yet")
    for path in store.files():
        if file := store.read(path.name):
            about, spec = file.header["provenance"], json.loads(file.header["spec"])["spec"]
            print(
                f"{path.name}  {called(spec['task'])}({spec['task'].get('length')}) {called(spec['init'])}",
                f"{len(file.arrays['seeds'])} networks, {file.header['update']:,} of {spec['updates']:,} updates",
                f"{about['engine']} on {about['device']}, {about['date']}, {about['wall_s']:,.0f} s",
                sep="  ",
            )
    return 0


def verify(given: argparse.Namespace) -> int:
    """Check every sum; 1 if one is wrong."""
    store = _store(given)
    damaged = store.verify()
    for path, reason in damaged.items():
        print(f"{path}: {reason}")
    print(f"{len(store.files())} files, {len(damaged)} of them damaged")
    return 1 if damaged else 0


def clean(given: argparse.Namespace) -> int:
    """Remove what nobody needs."""
    for path in _store(given).litter():
        path.unlink(missing_ok=True)
        print(f"removed {path.name}")
    return 0


def export(given: argparse.Namespace) -> int:
    """Write a summary of what is finished."""
    from rnnlab import sweeps
    from rnnlab.sweeps import summaries

    summaries.write_summary(sweeps.gather(_store(given), updates=given.updates), given.file, command=given.command)
    print(f"{given.file}: {given.file.stat().st_size:,} bytes")
    return 0


def pack(given: argparse.Namespace) -> int:
    """Put everything into one archive."""
    print(f"{given.file}: {_store(given).pack(given.file)} files")
    return 0


def unpack(given: argparse.Namespace) -> int:
    """Take in an archive."""
    print(f"{given.file}: {_store(given).unpack(given.file)} new files")
    return 0


def _store(given: argparse.Namespace) -> "Store":
    from rnnlab.training.store import Store

    return Store(given.folder)


if __name__ == "__main__":
    sys.exit(main())
