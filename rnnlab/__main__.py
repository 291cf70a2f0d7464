"""The command line: `rnnlab rebuild PROFILE`, `rnnlab script PAGE`, `rnnlab store ACTION`, `rnnlab results ACTION`."""

import argparse
import json
import os
import signal
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from rnnlab import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 if a page failed, or 2 if the command was refused."""
    given = _parser().parse_args(arguments)
    try:
        status = given.do(given) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads, such as `head`, has enough; and nothing is left to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("rnnlab: interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    except (ValueError, OSError) as refusal:
        print(f"rnnlab: {refusal}", file=sys.stderr)
    except ModuleNotFoundError as missing:
        print(f"rnnlab: {missing}; the environment of the book has it: pip install 'rnnlab[book]'", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rnnlab", description="Re-run the book, take out a page, look after results.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("rebuild", help=rebuild.__doc__)
    one.add_argument("profile", type=Path, help="folder of parameters, such as params/laptop")
    one.add_argument("--jobs", type=int, help="pages executed at a time; as many as there are cores, unless told")
    one.set_defaults(do=rebuild)
    one = commands.add_parser("script", help=script.__doc__)
    one.add_argument("page", help="such as book/5_experiments/temporal_order.md")
    one.add_argument("-f", "--parameters-file", type=Path, help="parameters, in YAML")
    one.add_argument("-p", "--parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    one.set_defaults(do=script)
    store = commands.add_parser("store", help="Look after what trainings leave behind, and take it elsewhere.")
    store.add_argument("--folder", type=Path, help="of the store; RNNLAB_STORE or the user's own, unless told")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    for name, action in ACTIONS.items():
        one = actions.add_parser(name, help=action.__doc__)
        one.set_defaults(do=action)
        if name in ("export", "pack", "unpack"):
            one.add_argument("file", type=Path)
        if name == "export":
            one.add_argument("--updates", type=int, help="take only trainings of this budget")
            one.add_argument("--command", default="", help="how the trainings can be made again")
    _add_results(commands)
    return parser


def _add_results(commands: Any) -> None:
    results = commands.add_parser("results", help="Make the long runs that the book stores, or make them again.")
    results.add_argument("--folder", type=Path, help="of the store; RNNLAB_STORE or the user's own, unless told")
    results.add_argument("--results", type=Path, help="folder of manifest.yml and summaries; the book's, unless told")
    actions = results.add_subparsers(required=True, metavar="ACTION")
    for name, action in RESULTS.items():
        one = actions.add_parser(name, help=action.__doc__)
        one.set_defaults(do=action)
        if name in ("run", "verify"):
            one.add_argument("--only", action="append", default=[], metavar="NAME", help="one result; may come again")
            one.add_argument("--device", default="auto", help="auto, cpu or cuda")
            one.add_argument("--low-priority", action="store_true", help="compute only when nobody else does")
            one.add_argument("--hours", type=float, default=0.0, help="stop after so many, where it then is")
        if name == "run":
            one.add_argument("--processes", type=int, help="each on one core, all of them; on a GPU threads, 16")
            one.add_argument("--chunk", type=int, help="networks that train side by side, at most: 5, on a GPU 20")
            one.add_argument("--restart", action="store_true", help="start again what another engine has begun")
        elif name == "verify":
            one.add_argument("--sample", type=int, default=1, metavar="N", help="networks of each result")
            one.add_argument("--seed", type=int, default=0, help="of the choice")
        elif name in ("pack", "unpack"):
            one.add_argument("file", type=Path)


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


def results_status(given: argparse.Namespace) -> None:
    """Print how far each stored result is, and how many hours of a core what is left takes at most."""
    from rnnlab.sweeps import making

    rows = making.status(_results(given), _store(given))
    print("priority  result                    finished  begun    wanted    updates   core hours left")
    for at in rows:
        made = f"{at.finished:8,}  {at.begun:5,}  {at.wanted:8,}  {at.updates:9,}  {at.hours:16,.1f}"
        print(f"{at.result.priority:8g}  {at.result.name:24}  {made}")


def results_run(given: argparse.Namespace) -> int:
    """Train or make what is missing, the most urgent first, each finished cell into its summary; 1 if a page failed."""
    from itertools import groupby

    from rnnlab.book import tables
    from rnnlab.sweeps import making, results

    how = _workers(given)
    _limit(given)
    folder, store, status = _results(given), _store(given), 0
    wanted = [one for one in results.manifest(folder, only=given.only).values() if tables.lacking(one, folder)]
    for table, some in groupby(wanted, key=lambda one: one.make is not None):
        if table:
            for one in some:
                failed, said = tables.make(one, folder, store)
                status |= failed
                print(f"{one.name}: {said}", flush=True)
            continue
        with closing(making.run(folder, store=store, only=[one.name for one in some], **how)) as made:
            for job, networks in made:
                if networks is not None:
                    solved = int(networks["first_below_1_percent"].notnull().sum())
                    where = ", ".join(f"{name} {label}" for name, label in job.labels.items() if name != "result")
                    seconds = f"{networks.attrs['wall_s']:,.0f} s"
                    print(f"{job.labels['result']}: {where}, seeds {job.seeds}: {solved} solved, {seconds}", flush=True)
    return status


def _workers(given: argparse.Namespace) -> dict[str, Any]:
    """Who trains, as `making.run` is told: on a GPU threads, as kernels of several processes would take turns there."""
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context

    from rnnlab import machine
    from rnnlab.training.ensembles import pick_device

    gpu = pick_device(given.device).type != "cpu"
    workers = given.processes or (16 if gpu else machine.cores())
    if workers > 1 and not gpu:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, which are started anew
    processes = partial(ProcessPoolExecutor, workers, get_context("spawn"))
    executor = None if workers < 2 else partial(ThreadPoolExecutor, workers) if gpu else processes
    chunk = given.chunk or (20 if gpu else 5)
    return {"device": given.device, "chunk": chunk, "restart": given.restart, "executor": executor}


def results_verify(given: argparse.Namespace) -> int:
    """Train some stored networks again, make tables again that --only names, and compare; 1 if one is another."""
    from itertools import chain

    from rnnlab.book import tables
    from rnnlab.sweeps import making

    _limit(given)
    folder, found = _results(given), []
    again = making.verify(folder, sample=given.sample, only=given.only, seed=given.seed, device=given.device)
    for one in chain(again, tables.verify(folder, given.only)):
        found.append(one.holds)
        print(f"{one.result}, {one.which}: {one.said}", flush=True)
    print(f"{len(found)} networks and tables, {found.count(False)} of them others than stored")
    return int(not all(found))


def _limit(given: argparse.Namespace) -> None:
    """Have a command end in time, or like at Ctrl-C when it is told to; and give way to others, if that is wanted."""
    from rnnlab import machine

    if given.hours < 0:
        raise ValueError(f"--hours must not be negative, got {given.hours}")
    for sign in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, given.hours * 3600)
    if given.low_priority:
        machine.give_way()


def _results(given: argparse.Namespace) -> Path:
    from rnnlab.book import pages

    return given.results or pages.beside("manifest.yml").parent


RESULTS = {"status": results_status, "run": results_run, "verify": results_verify, "pack": pack, "unpack": unpack}
ACTIONS = {"list": list_, "verify": verify, "clean": clean, "export": export, "pack": pack, "unpack": unpack}

if __name__ == "__main__":
    sys.exit(main())
