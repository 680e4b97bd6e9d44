"""What the labeler's page asks for: JSON in, JSON out, nothing that tells which model made a clip."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from fastapi import APIRouter
from markdown_it import MarkdownIt
from pydantic import BaseModel, ConfigDict, Field

from align.preferences.campaign.schema import FlagRequest, Lease, ShortId, Submission
from ui.web.state import AccountOf, State, StateOf

router = APIRouter(prefix="/api")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LeaseBody(_Body):
    """How many tasks the page wants to hold."""

    count: Annotated[int, Field(ge=1, le=16, strict=True)] = 4


class ReturnBody(_Body):
    """A task that somebody else shall do."""

    lease_id: ShortId


@router.get("/me")
def show_me(state: StateOf, account: AccountOf) -> dict[str, Any]:
    """Who is signed in, what they have done, and what the page needs to know before the first task."""
    guideline, settings = state.campaign.guideline(), state.campaign.settings()
    return {
        "annotator_id": account.annotator_id,
        "role": account.role,
        "progress": state.campaign.progress(account.annotator_id),
        "guideline": {"version": guideline.version, "html": render_markdown(guideline.body)} if guideline else None,
        "settings": {"mode": settings.mode, "blur": settings.blur},
    }


@router.post("/lease")
def lease_tasks(body: LeaseBody, state: StateOf, account: AccountOf) -> dict[str, Any]:
    """The tasks this person holds, renewed, and new ones up to ``count`` in all."""
    leases = state.campaign.lease(account.annotator_id, body.count)
    settings = state.campaign.settings()
    questions = {axis.name: axis.question or axis.name for axis in settings.axes}
    return {"tasks": [_describe_task(state, lease, questions, settings.blur) for lease in leases]}


@router.post("/submit")
def submit(body: Submission, state: StateOf, account: AccountOf) -> dict[str, Any]:
    """Store the answers to one task; when this returns, they are on the disk."""
    state.campaign.submit(body, account.annotator_id)
    return {"stored": True, "progress": state.campaign.progress(account.annotator_id)}


@router.post("/flag")
def flag(body: FlagRequest, state: StateOf, account: AccountOf) -> dict[str, Any]:
    """Raise a flag on a clip of a leased task, or take it back."""
    state.campaign.flag(
        body.flag_id, body.lease_id, body.position, body.kind, body.raised, account.annotator_id, comment=body.comment
    )
    return {"stored": True}


@router.post("/return")
def give_back(body: ReturnBody, state: StateOf, account: AccountOf) -> dict[str, Any]:
    """Hand a task back unanswered."""
    state.campaign.give_back(body.lease_id, account.annotator_id)
    return {"returned": True}


def _describe_task(state: State, lease: Lease, questions: dict[str, str], blur: bool) -> dict[str, Any]:
    names = [lease.task.rollouts[index] for index in lease.shown]
    first = state.media.clips[names[0]]
    given, total = first.context_frames, first.num_frames
    return {
        "lease_id": lease.lease_id,
        "expires_at": lease.expires_at,
        "task_text": first.task,
        "context_text": f"Frames 1 to {given} of {total} are given and alike in every clip." if 0 < given < total else "",
        "warn": blur or lease.warn,
        "axes": [{"name": axis, "question": questions.get(axis, axis)} for axis in lease.axes],
        "clips": [state.media.describe(name, place) for place, name in enumerate(names)],
    }


@functools.lru_cache(maxsize=16)
def render_markdown(text: str) -> str:
    """Markdown to HTML; HTML in the text is shown as text, and links can't run scripts."""
    parser = MarkdownIt("js-default", {"html": False, "linkify": False})
    parser.add_render_rule("link_open", _open_link)
    return str(parser.render(text))


def _open_link(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer")
    return str(renderer.renderToken(tokens, index, options, env))
