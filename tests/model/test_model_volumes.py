"""The volumes behave like three dictionaries of paths, whatever is written, moved, undone or opened again."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from tests.model.kit import TORTURE, USUAL, Machine

from torpor.base.errors import FileInTheWay, FileMissing, PathRefused, QuotaExceeded, TorporError
from torpor.workbook import FileReader, Volume

VOLUMES = st.sampled_from(["workspace", "memory", "tmp"])
PATHS = st.sampled_from(["/a", "/b", "/ab", "/a0", "/a.x", "/é", "/a/b", "/a/c", "/b/a", "/a/b/c", "/a/b/d", "/é/a"])
DATA = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.sampled_from([4096, 65_536, 65_537, 200_000])
    ),
)
QUOTA = 2**32

Files = dict[str, tuple[bytes, int]]


def inside(files: Files, folder: str) -> list[str]:
    return [path for path in files if path.startswith(folder.rstrip("/") + "/")]


def in_the_way(files: Files, path: str) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[:end]) for end in range(2, len(parts))]
    return any(folder in files for folder in above) or bool(inside(files, path))


class VolumesMachine(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.model = {volume: {} for volume in ("workspace", "memory", "tmp")} | {"quota": {}}
        self.readers: list[tuple[FileReader, bytes]] = []

    def expect(self, wrong: type[TorporError] | None, call: Any) -> bool:
        """Make a call that is to fail with that error, or not at all; report whether it was to succeed."""
        if wrong is None:
            call()
            return True
        with pytest.raises(wrong):
            call()
        return False

    def fits(self, volume: str, more: int) -> bool:
        used = sum(len(content) for content, _ in self.model[volume].values())
        return bool(used + more <= self.model["quota"].get(volume, QUOTA))

    def refusal(self, volume: str, path: str, size: int) -> type[TorporError] | None:
        files = self.model[volume]
        if in_the_way(files, path):
            return FileInTheWay
        return None if self.fits(volume, size - len(files.get(path, (b"",))[0])) else QuotaExceeded

    @rule(volume=VOLUMES, path=PATHS, data=DATA, mode=st.sampled_from([0, 0o644, 0o777]))
    def write(self, volume: Volume, path: str, data: bytes, mode: int) -> None:
        wrong = self.refusal(volume, path, len(data))
        if self.expect(wrong, lambda: self.book.write(volume, path, data, mode=mode)):
            self.model[volume][path] = (data, mode)

    @rule(volume=VOLUMES, path=PATHS, data=DATA)
    def create(self, volume: Volume, path: str, data: bytes) -> None:
        wrong = FileInTheWay if path in self.model[volume] else self.refusal(volume, path, len(data))
        if self.expect(wrong, lambda: self.book.volumes.create(volume, path, data)):
            self.model[volume][path] = (data, 0o644)

    @rule(volume=VOLUMES, path=PATHS, data=DATA)
    def append(self, volume: Volume, path: str, data: bytes) -> None:
        files = self.model[volume]
        wrong = (
            self.refusal(volume, path, len(data))
            if path not in files
            else (None if self.fits(volume, len(data)) else QuotaExceeded)
        )
        if self.expect(wrong, lambda: self.book.volumes.append(volume, path, data)):
            old, mode = files.get(path, (b"", 0o644))
            files[path] = (old + data, mode)

    @rule(
        volume=VOLUMES,
        path=PATHS,
        sizes=st.lists(st.sampled_from([0, 7, 70_000, 1_100_000]), max_size=3),
        keep=st.booleans(),
    )
    def stream(self, volume: Volume, path: str, sizes: list[int], keep: bool) -> None:  # noqa: FBT001
        content = b"".join(bytes([65 + number]) * size for number, size in enumerate(sizes))
        old = len(self.model[volume].get(path, (b"",))[0])
        wrong: type[TorporError] | None = None if self.fits(volume, len(content) - old) else QuotaExceeded
        if wrong is None and keep and in_the_way(self.model[volume], path):
            wrong = FileInTheWay

        def call() -> None:
            with self.book.writer(volume, path) as writer:
                for number, size in enumerate(sizes):
                    writer.write(bytes([65 + number]) * size)
                if not keep:
                    writer.discard()

        if not keep and wrong is QuotaExceeded:
            return  # whether it is noticed depends on how much is still in the buffer
        if self.expect(wrong, call) and keep:
            self.model[volume][path] = (content, 0o644)

    @rule(volume=VOLUMES, path=PATHS, to=PATHS, replace=st.booleans())
    def move(self, volume: Volume, path: str, to: str, replace: bool) -> None:  # noqa: FBT001
        files = self.model[volume]
        moving = [path] if path in files else inside(files, path)
        rest = {name: file for name, file in files.items() if name not in moving}
        wrong: type[TorporError] | None = None
        if to == path or to.startswith(path + "/"):
            wrong = PathRefused
        elif not moving:
            wrong = FileMissing
        elif (to in files and not (replace and path in files)) or in_the_way(rest, to):
            wrong = FileInTheWay
        if self.expect(wrong, lambda: self.book.move(volume, path, to, replace=replace)):
            rest.pop(to, None)
            moved = {to + name[len(path) :]: files[name] for name in moving}
            self.model[volume] = rest | moved

    @rule(volume=VOLUMES, path=st.one_of(PATHS, st.just("/")), recursive=st.booleans())
    def delete(self, volume: Volume, path: str, recursive: bool) -> None:  # noqa: FBT001
        files = self.model[volume]
        going = [path] if path in files else inside(files, path)
        wrong: type[TorporError] | None = None
        if not going and path != "/":
            wrong = FileMissing
        elif path not in files and not recursive:
            wrong = FileInTheWay
        if self.expect(wrong, lambda: self.book.delete(volume, path, recursive=recursive)):
            for name in going:
                del files[name]

    @rule(volume=VOLUMES, quota=st.sampled_from([0, 50, 100_000, 500_000, QUOTA]))
    def limit(self, volume: Volume, quota: int) -> None:
        used = sum(len(content) for content, _ in self.model[volume].values())
        wrong = QuotaExceeded if quota < used else None
        if self.expect(wrong, lambda: self.book.volumes.set_quota(volume, quota)):
            self.model["quota"][volume] = quota

    @rule(volume=VOLUMES, path=PATHS)
    def open_reader(self, volume: Volume, path: str) -> None:
        file = self.committed[volume].get(path)
        if file:
            self.readers.append((self.book.reader(volume, path), file[0]))
        else:
            self.expect(FileMissing, lambda: self.book.reader(volume, path))

    @precondition(lambda self: self.readers)
    @rule(size=st.integers(1, 100_000))
    def read_some(self, size: int) -> None:
        reader, content = self.readers[0]
        place = reader.tell()
        piece = reader.read(size) or b""
        assert piece == content[place : place + len(piece)]
        assert piece or place >= len(content)

    @precondition(lambda self: self.readers)
    @rule()
    def close_reader(self) -> None:
        reader, content = self.readers.pop(0)
        reader.seek(0)
        assert reader.readall() == content
        reader.close()

    @precondition(lambda self: not self.blocks)
    @rule()
    def reopen(self) -> None:
        self.readers = []  # they close with their workbook
        super().reopen()

    @rule()
    def beside(self) -> None:
        with self.open(readonly=True) as book:
            for volume in ("workspace", "memory", "tmp"):
                found = {file.path: book.read(volume, file.path) for file in book.list(volume, recursive=True)}
                assert found == {path: file[0] for path, file in self.committed[volume].items()}

    @rule(volume=VOLUMES, folder=st.sampled_from(["/", "/a", "/a/b", "/é"]))
    def look(self, volume: Volume, folder: str) -> None:
        files = self.model[volume]
        below = inside(files, folder)
        if not below and folder != "/":
            with pytest.raises(FileMissing):
                self.book.list(volume, folder)
            return
        stem = folder.rstrip("/") + "/"
        names = {stem + path[len(stem) :].split("/")[0] for path in below}
        assert [each.path for each in self.book.list(volume, folder)] == sorted(names, key=str.encode)
        for each in self.book.list(volume, folder):
            assert each == self.book.stat(volume, each.path)
            assert (each.kind == "file") == (each.path in files)
        assert self.book.stat(volume, folder).size == sum(len(files[path][0]) for path in below)

    @invariant()
    def agrees(self) -> None:
        for volume in ("workspace", "memory", "tmp"):
            files = self.model[volume]
            found = self.book.list(volume, recursive=True)
            assert [(file.path, file.size, file.mode) for file in found] == sorted(
                ((path, len(content), mode) for path, (content, mode) in files.items()),
                key=lambda row: row[0].encode(),
            )
            assert all(self.book.read(volume, path) == content for path, (content, _) in files.items())
            usage = self.book.volumes.usage(volume)
            assert usage.used == sum(len(content) for content, _ in files.values())
            assert usage.quota == self.model["quota"].get(volume, QUOTA)


def test_volumes_agree_with_a_dictionary() -> None:
    run_state_machine_as_test(VolumesMachine, settings=USUAL)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_volumes_agree_with_a_dictionary_for_long() -> None:
    run_state_machine_as_test(VolumesMachine, settings=TORTURE)
