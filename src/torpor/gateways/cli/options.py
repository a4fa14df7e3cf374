"""What several commands take in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(metavar="FILE", help="The workbook.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
