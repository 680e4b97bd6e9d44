"""Downloads for admins: every table of answers in every format, made when it is asked for and kept nowhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from align.errors import Forbidden, NotFound
from align.preferences.exchange import KINDS
from align.preferences.votes.tables import write_rows
from ui.web.state import AccountOf, State, StateOf

CHUNK = 1 << 16
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
router = APIRouter()


@router.get("/export/{name}.{form}")
def send_table(name: str, form: str, state: StateOf, account: AccountOf) -> StreamingResponse:
    """A table as a file; raw rows, corrections included."""
    if account.role != "admin":
        raise Forbidden("exports are for admins")
    if name not in KINDS or form not in FORMATS:
        raise NotFound(f"there is no such export; tables are {', '.join(KINDS)}, formats {', '.join(FORMATS)}")
    file, size = _write(state, name, form)
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"', "Content-Length": str(size)}
    return StreamingResponse(_read(file), media_type=FORMATS[form], headers=headers)


def _write(state: State, name: str, form: str) -> tuple[BinaryIO, int]:
    # The file has no name any more when this returns, so that nobody's answers are left behind, whatever happens next.
    with tempfile.TemporaryDirectory(prefix="gptsim-export-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"{name}.{form}"
        write_rows(path, KINDS[name].load(state.store), KINDS[name].model)
        return path.open("rb"), path.stat().st_size


def _read(file: BinaryIO) -> Iterator[Any]:
    with file:
        while part := file.read(CHUNK):
            yield part
