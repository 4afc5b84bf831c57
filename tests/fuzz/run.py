"""Damage every kind of file, and print a table of how reading them ended.

python tests/fuzz/run.py CASES [SEED]
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutations import try_reader
from fuzz.readers import READERS, make_whole

HEAD = """\
| Fault | Cases | Refused | Harmless | Accepted, no checksum | Wrong | Crashed, hung | Slowest |
|---|---|---|---|---|---|---|---|"""


def main(cases: int, seed: int) -> int:
    print(HEAD)
    failures = []
    with tempfile.TemporaryDirectory() as name:
        whole = make_whole(Path(name))
        for kind, reader in READERS.items():
            with tempfile.TemporaryDirectory() as folder:
                endings, wrong, slowest = try_reader(
                    kind, whole, Path(folder), cases=cases, seed=seed
                )
            other = endings["other data"]
            accepted, bad = (0, other) if reader.checked else (other, 0)
            dead = endings["crashed"] + endings["hung"]
            print(
                f"| damaged {kind} | {cases} | {endings['refused']} | {endings['same data']} | "
                f"{accepted} | {bad + endings['foreign']} | {dead} | {slowest:.1f} s |",
                flush=True,
            )
            failures += wrong
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
