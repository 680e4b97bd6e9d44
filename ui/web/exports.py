"""Downloads for admins: every table of answers in every format, made when it is asked for and kept nowhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from align.errors import Forbidden, NotFound
from align.preferences.schema import Breakpoint, Flag, Judgement, Vote
from align.preferences.tables import write_rows
from ui.web.state import AccountOf, State, StateOf

CHUNK = 1 << 16
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
_TABLES: dict[str, tuple[type[BaseModel], Callable[[State], Sequence[BaseModel]]]] = {
    "votes": (Vote, lambda state: state.store.votes()),
    "judgements": (Judgement, lambda state: state.store.judgements()),
    "flags": (Flag, lambda state: state.campaign.flags()),
    "breakpoints": (Breakpoint, lambda state: state.campaign.breakpoints(effective=False)),
}
NAMES = tuple(_TABLES)
router = APIRouter()


@router.get("/export/{name}.{form}")
def send_table(name: str, form: str, state: StateOf, account: AccountOf) -> StreamingResponse:
    """A table as a file; raw rows, corrections included."""
    if account.role != "admin":
        raise Forbidden("exports are for admins")
    if name not in _TABLES or form not in FORMATS:
        raise NotFound(f"there is no such export; tables are {', '.join(NAMES)}, formats {', '.join(FORMATS)}")
    file, size = _write(state, name, form)
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"', "Content-Length": str(size)}
    return StreamingResponse(_read(file), media_type=FORMATS[form], headers=headers)


def _write(state: State, name: str, form: str) -> tuple[BinaryIO, int]:
    model, load = _TABLES[name]
    # The file has no name any more when this returns, so that nobody's answers are left behind, whatever happens next.
    with tempfile.TemporaryDirectory(prefix="gptsim-export-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"{name}.{form}"
        write_rows(path, load(state), model)
        return path.open("rb"), path.stat().st_size


def _read(file: BinaryIO) -> Iterator[Any]:
    with file:
        while part := file.read(CHUNK):
            yield part
