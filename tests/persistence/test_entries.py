import io
import stat
import struct
import warnings
import zipfile

import pytest

from ptychostream.errors import DataContractError
from ptychostream.persistence.entries import FOLDER, Limits, Members


def _zip(*entries, comment=b""):
    """Pack (name or ZipInfo, content) pairs."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        archive.comment = comment
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def _link():
    entry = zipfile.ZipInfo("a link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def _bzip2():
    entry = zipfile.ZipInfo("bzip2")
    entry.compress_type = zipfile.ZIP_BZIP2
    return entry


def _encrypted():
    data = bytearray(_zip(("secret", b"x")))
    # The flags in the member's own header, and in the directory.
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def _renamed(old, new):
    """Change a name in the bytes: zipfile itself would not write some."""
    assert len(old) == len(new)
    return _zip((old.decode(), b"x")).replace(old, new)


def _lying(size):
    """Say another unpacked size in the directory."""
    data = bytearray(_zip(("liar", bytes(range(256)) * 8)))
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, size)
    return bytes(data)


def _many_names(count):
    """A directory of names alone, all for one member: 46 bytes each."""
    data = _zip(("a", b"x"))
    at = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    directory = data[at:end] * count
    tail = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 1, 1, len(directory), at, 0)
    return data[:at] + directory + tail


HOSTILE = {
    "a way up": (_zip(("../evil", b"x")), "'../evil' has an unsafe name"),
    "a way up within": (_zip(("a/../../evil", b"x")), "'a/../../evil' has an unsafe name"),
    "an absolute path": (_zip(("/etc/evil", b"x")), "'/etc/evil' has an unsafe name"),
    "a drive": (_zip(("C:evil", b"x")), "'C:evil' has an unsafe name"),
    "a backslash": (_zip(("a\\evil", b"x")), "evil' has an unsafe name"),
    "an empty part": (_zip(("a//evil", b"x")), "'a//evil' has an unsafe name"),
    "a dot": (_zip(("./evil", b"x")), "'./evil' has an unsafe name"),
    "a zero byte": (_renamed(b"evil.py.dill", b"evil.py\0dill"), "'evil.py' has an unsafe name"),
    "a line break": (_zip(("a\nb", b"x")), r"has an unsafe name"),
    "letters that turn the direction": (_zip(("a\u202ellid", b"x")), "has an unsafe name"),
    "letters without width": (_zip(("manifest\u200b.dill", b"x")), "has an unsafe name"),
    "full stops of full width": (_zip(("\uff0e\uff0e/evil", b"x")), "has an unsafe name"),
    "a slash of full width": (_zip(("..\uff0fevil", b"x")), "has an unsafe name"),
    "a two-dot leader": (_zip(("\u2025/evil", b"x")), "has an unsafe name"),
    "one name twice": (_zip(("a", b"x"), ("a", b"y")), "'a' and 'a' have the same name"),
    "one name in two cases": (_zip(("a", b"x"), ("A", b"y")), "'a' and 'A' have the same name"),
    "one name in two widths": (_zip(("ab", b"x"), ("\uff41b", b"y")), "'ab' and 'ａb' have"),
    "a link": (_zip((_link(), b"/etc/passwd")), "'a link' is a link"),
    "encryption": (_encrypted(), "'secret' is encrypted"),
    "another packing": (_zip((_bzip2(), b"x" * 99)), "'bzip2' is packed in a way"),
    "a bomb": (_zip(("bomb", bytes(10**7))), "'bomb' is compressed absurdly"),
    "too many": (_zip(*((f"m{i}", b"") for i in range(99))), "has 99 members"),
    "too many for the directory": (_many_names(10**5), "expected at most 64"),
    "no zip file": (b"no zip file at all, but of some length", "is not a readable archive"),
    "an empty file": (b"", "is not a readable archive"),
    "a cut file": (_zip(("a", b"x" * 99))[:-30], "is not a readable archive"),
    "a cut beginning": (_zip(("a", b"x" * 99))[20:], "'a' can't be read"),
    "another name inside": (
        _zip(("aaaa", b"x" * 99)).replace(b"aaaa", b"bbbb", 1),
        "'aaaa' can't be read: File name in directory",
    ),
    "a flipped bit": (_zip((zipfile.ZipInfo("a"), b"xx")).replace(b"xx", b"xy"), "'a'"),
    "a size too small": (_lying(100), "'liar'"),
    "a size too large": (_lying(10**5), "'liar'"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_with_the_member_named(kind, tmp_path):
    data, message = HOSTILE[kind]
    path = tmp_path / "it.zip"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(DataContractError, match=message), Members(source, "it") as members:
            for name in members.sizes:
                members.read(name)
    assert [p.name for p in tmp_path.iterdir()] == ["it.zip"]


def test_members_that_say_too_much_in_all_are_refused():
    data = _zip(*((f"m{i}", bytes(range(256)) * 4) for i in range(5)))
    with pytest.raises(DataContractError, match=r"would take 5120 bytes, over 5000; member 'm0'"):
        Members(data, "it", Limits(total=5000))


def test_honest_members_are_read():
    with Members(_zip(("a", b"x"), ("b/c", b"yy"), comment=b"said"), "it") as members:
        assert members.sizes == {"a": 1, "b/c": 2}
        assert members.comment == b"said"
        assert members.read("b/c") == b"yy"
        assert members.head("b/c", 1) == b"y"
        with pytest.raises(DataContractError, match="member 'd' can't be read"):
            members.read("d")
        with pytest.raises(DataContractError, match="member 'b/c' has 2 bytes, over 1"):
            members.read("b/c", at_most=1)


def test_a_folder_may_hold_what_an_archive_may_not():
    data = _zip(*((f"log/{i}", b"") for i in range(99)), ("zeros", bytes(10**7)))
    with Members(data, "it", FOLDER) as members:
        assert len(members.sizes) == 100
