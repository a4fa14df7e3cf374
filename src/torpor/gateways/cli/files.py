"""`torpor files`."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from torpor.gateways.cli.options import File, Json
from torpor.gateways.cli.show import EXIT_CODES, FAILED, complain, errors_shown, say, say_json, when, writing
from torpor.service import Place, Service

Where = Annotated[
    str,
    typer.Argument(metavar="VOLUME:/PATH", help="A place in the workspace, memory or tmp volume.", show_default=False),
]


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    files = typer.Typer(
        no_args_is_help=True,
        help="Look at and change the files in an agent's volumes.",
        epilog="Example: torpor files ls ada.workbook memory:/ --recursive\n\n" + EXIT_CODES,
    )
    app.add_typer(files, name="files")
    _add_ls(files, service)
    _add_cat(files, service)
    _add_put(files, service)
    _add_get(files, service)


def _add_ls(files: typer.Typer, service: Service) -> None:
    @files.command("ls", epilog="Example: torpor files ls ada memory:/ --recursive\n\n" + EXIT_CODES)
    def list_files(
        file: File,
        place: Where = "workspace:/",
        recursive: Annotated[  # noqa: FBT002
            bool, typer.Option("--recursive", "-r", help="All files below, not only what is directly there.")
        ] = False,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """List what is at a place."""
        with errors_shown(as_json=as_json):
            found = service.list_files(file, Place.parse(place), recursive=recursive)
        for entry in found:
            if as_json:
                say_json(entry)
            else:
                name = entry.path + ("/" if entry.kind == "folder" else "")
                say(f"{entry.mode:04o} {entry.size:>12}  {when(entry.mtime)}  {name}")


def _add_cat(files: typer.Typer, service: Service) -> None:
    @files.command("cat", epilog="Example: torpor files cat ada.workbook workspace:/a.txt\n\n" + EXIT_CODES)
    def cat(file: File, place: Where) -> None:
        """Write a file's bytes to standard output."""
        with errors_shown(as_json=False), writing():
            service.read_file(file, Place.parse(place), sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _add_put(files: typer.Typer, service: Service) -> None:
    @files.command(
        "put",
        epilog="Examples: torpor files put ada workspace:/a.txt a.txt · "
        "date | torpor files put ada.workbook workspace:/now.txt -\n\n" + EXIT_CODES,
    )
    def put(
        file: File,
        place: Where,
        source: Annotated[str, typer.Argument(help="A file, or - for standard input.", show_default=False)],
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Copy a file into the workbook, whole or not at all; what was there is replaced."""
        with errors_shown(as_json=as_json):
            where = Place.parse(place)
            if source == "-":
                size = service.write_file(file, where, sys.stdin.buffer)
            else:
                with _files_shown(source, as_json=as_json), _opened(source, service.homes.file_of(file)) as stream:
                    size = service.write_file(file, where, stream)
        if as_json:
            say_json({"volume": where.volume, "path": where.path, "size": size})
        else:
            say(f"{where.volume}:{where.path}: {size} bytes")


def _add_get(files: typer.Typer, service: Service) -> None:
    @files.command("get", epilog="Example: torpor files get ada.workbook workspace:/a.txt a.txt\n\n" + EXIT_CODES)
    def get(
        file: File,
        place: Where,
        target: Annotated[Path, typer.Argument(help="Where to; a new name.", show_default=False)],
        force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,  # noqa: FBT002
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Copy a file out of the workbook, whole or not at all."""
        with errors_shown(as_json=as_json):
            where = Place.parse(place)
            with _files_shown(str(target), as_json=as_json):
                _refuse_workbook(target, service.homes.file_of(file))
                if target.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "it is a folder; give the file's new name")
                if not force and os.path.lexists(target):
                    raise FileExistsError
                with _draft(target, force=force) as draft:
                    size = service.read_file(file, where, draft)
        if as_json:
            say_json({"path": str(target), "size": size})
        else:
            say(f"{target}: {size} bytes")


@contextmanager
def _draft(target: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Open a file that gets its name, durably, when the block ends, and is gone if that raises."""
    prefix = f".{target.name}."[:100]
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=prefix, suffix=".part", delete=False) as draft:
        try:
            yield draft
            draft.flush()
            os.fchmod(draft.fileno(), 0o666 & ~_umask())
            os.fsync(draft.fileno())
            if force or not _linked(draft.name, target):
                os.replace(draft.name, target)
        finally:
            Path(draft.name).unlink(missing_ok=True)


def _linked(draft: str, target: Path) -> bool:
    """Give a draft its name unless something came to be there meanwhile; False where the file system has no links."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def _opened(source: str, workbook: str) -> Iterator[IO[bytes]]:
    _refuse_workbook(Path(source), workbook)
    with Path(source).open("rb") as stream:
        yield stream


def _refuse_workbook(path: Path, workbook: str) -> None:
    """Refuse the workbook itself: nothing but Torpor's own storage may open or replace it."""
    real = str(Path(workbook).resolve())
    if str(path.resolve()) in {real, *(f"{real}{suffix}" for suffix in ("-wal", "-shm", "-owner"))}:
        raise PermissionError(errno.EPERM, "it is the workbook itself")


@contextmanager
def _files_shown(path: str, *, as_json: bool) -> Iterator[None]:
    """Turn an error of a file outside the workbook into a message and an exit code."""
    try:
        yield
    except FileExistsError as error:
        complain(f"{path} is there already", "Give another name, or --force to replace it.", as_json=as_json)
        raise typer.Exit(FAILED) from error
    except OSError as error:
        complain(f"{path}: {error.strerror}", "Nothing was changed.", as_json=as_json)
        raise typer.Exit(FAILED) from error
