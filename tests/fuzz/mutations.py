"""Damage to files, drawn at random from a seed: bits, bytes, blocks, ends and neighbours."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from fuzz.attempts import attempt
from fuzz.readers import ENDINGS, READERS, Whole


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes of a file."""
    if not data:
        return b"x"
    changed = bytearray(data)
    at = int(rng.integers(len(data)))
    length = int(rng.integers(1, 1 + min(64, len(data) - at)))
    match rng.integers(8):
        case 0:
            changed[at] ^= 1 << int(rng.integers(8))
        case 1:
            changed[at] = int(rng.integers(256))
        case 2:
            changed[at : at + length] = bytes(length)
        case 3:
            changed[at : at + length] = b"\xff" * length
        case 4:
            changed[at : at + length] = rng.bytes(length)
        case 5:
            del changed[at:]
        case 6:
            del changed[at : at + length]
        case _:
            changed[at:at] = changed[at : at + length]
    return bytes(changed)


def damage(path: Path, rng: np.random.Generator) -> None:
    """Change one file: this one, or one in this folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    sizes = np.array([file.stat().st_size for file in files], float)
    # Small files describe the large ones: each counts at least as 1000 bytes.
    weights = np.maximum(sizes, 1000)
    file = files[int(rng.choice(len(files), p=weights / weights.sum()))]
    before = file.read_bytes()
    while (after := mutated(before, rng)) == before:
        pass
    file.write_bytes(after)


def try_reader(name: str, whole: Whole, folder: Path, *, cases: int, seed: int = 0):
    """Read damaged files; return how often each ending came, the worst texts, and the slowest."""
    reader, rng = READERS[name], np.random.default_rng([seed, *name.encode()])
    original = folder / f"original.{ENDINGS[name]}"
    reader.write(original, whole)
    expected = reader.read(original)
    endings: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    for case in range(cases):
        path = folder / f"case.{ENDINGS[name]}"
        if original.is_dir():
            shutil.copytree(original, path)
        else:
            shutil.copyfile(original, path)
        damage(path, rng)
        ending = attempt(lambda path=path: reader.read(path))
        kind = ending.kind
        if kind == "returned":
            kind = "same data" if ending.text == expected else "other data"
        endings[kind] += 1
        slowest = max(slowest, ending.seconds)
        if kind in ("foreign", "hung", "crashed") or (kind == "other data" and reader.checked):
            wrong.append(f"{name}, case {case}: {kind} {ending.text}")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return endings, wrong, slowest
