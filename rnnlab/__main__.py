"""The command line: `rnnlab rebuild PROFILE`, `rnnlab script PAGE`, `rnnlab store ACTION`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rnnlab import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 if a page failed, or 2 if the command was refused."""
    given = _parser().parse_args(arguments)
    try:
        return (COMMANDS | ACTIONS)[given.run](given) or 0
    except (ValueError, OSError) as refusal:
        print(f"rnnlab: {refusal}", file=sys.stderr)
    except ModuleNotFoundError as missing:
        print(f"rnnlab: {missing}; the environment of the book has it: pip install 'rnnlab[book]'", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rnnlab", description="Re-run the book, take out a page, look after results.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="run")
    one = commands.add_parser("rebuild", help=rebuild.__doc__)
    one.add_argument("profile", type=Path, help="folder of parameters, such as params/laptop")
    one.add_argument("--jobs", type=int, help="pages executed at a time; as many as there are cores, unless told")
    one = commands.add_parser("script", help=script.__doc__)
    one.add_argument("page", help="such as book/5_experiments/temporal_order.md")
    one.add_argument("-f", "--parameters-file", type=Path, help="parameters, in YAML")
    one.add_argument("-p", "--parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    store = commands.add_parser("store", help="Look after what trainings leave behind, and take it elsewhere.")
    store.add_argument("--folder", type=Path, help="of the store; RNNLAB_STORE or the user's own, unless told")
    actions = store.add_subparsers(required=True, metavar="ACTION", dest="run")
    for name, action in ACTIONS.items():
        one = actions.add_parser(name, help=action.__doc__)
        if name in ("export", "pack", "unpack"):
            one.add_argument("file", type=Path)
        if name == "export":
            one.add_argument("--updates", type=int, help="take only trainings of this budget")
            one.add_argument("--command", default="", help="how the trainings can be made again")
    return parser


def rebuild(given: argparse.Namespace) -> None:
    """Execute every page with other parameters, and build the site; goes on from the pages that are finished."""
    from rnnlab.book import running

    if given.jobs is not None and given.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {given.jobs}")
    running.rebuild(Path.cwd(), given.profile, jobs=given.jobs or 0)


def script(given: argparse.Namespace) -> None:
    """Print a page as plain Python, its parameters put in."""
    from rnnlab.book import myst, notebooks, script

    values = notebooks.values(given.parameters_file) if given.parameters_file else {}
    values |= {name: notebooks.value(text) for name, text in given.parameters}
    page = Path(given.page.removeprefix(myst.SCHEME))  # written as for papermill
    sys.stdout.buffer.write(script.script(page, values).encode())  # as Python reads it, whatever the locale
    sys.stdout.flush()


def list_(given: argparse.Namespace) -> None:
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


def verify(given: argparse.Namespace) -> int:
    """Check every sum; 1 if one is wrong."""
    store = _store(given)
    damaged = store.verify()
    for path, reason in damaged.items():
        print(f"{path}: {reason}")
    print(f"{len(store.files())} files, {len(damaged)} of them damaged")
    return bool(damaged)


def clean(given: argparse.Namespace) -> None:
    """Remove what was set aside, and what nobody needs any more."""
    for path in _store(given).litter():
        path.unlink(missing_ok=True)
        print(f"removed {path.name}")


def export(given: argparse.Namespace) -> None:
    """Write a summary of what is finished, small enough for book/results/."""
    from rnnlab.sweeps import gather, summaries

    summaries.write_summary(gather(_store(given), updates=given.updates), given.file, command=given.command)
    print(f"{given.file}: {given.file.stat().st_size:,} bytes")


def pack(given: argparse.Namespace) -> None:
    """Put all of it into one archive."""
    print(f"{given.file}: {_store(given).pack(given.file)} files")


def unpack(given: argparse.Namespace) -> None:
    """Take in an archive, once every sum in it is right."""
    print(f"{given.file}: {_store(given).unpack(given.file)} new files")


def _store(given: argparse.Namespace) -> Any:
    from rnnlab.training.store import Store

    return Store(given.folder)


COMMANDS = {"rebuild": rebuild, "script": script}
ACTIONS = {"list": list_, "verify": verify, "clean": clean, "export": export, "pack": pack, "unpack": unpack}

if __name__ == "__main__":
    sys.exit(main())
