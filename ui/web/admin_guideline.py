"""The admin's tab about the guideline: a text in Markdown, published as numbered versions that go into every vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.errors import NotFound
from align.preferences.accounts import Account
from align.preferences.campaign.overview import list_guidelines
from ui.web.api import render_markdown
from ui.web.desk import ROW_BUTTONS, Desk, bind
from ui.web.markup import button, notice, section, show_moment, table

MAX_PREVIEW_CHARS = 50_000


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    hint = "What labelers are to look for, with examples. Every answer is stored with the version its labeler had before them."
    gr.HTML(section("Guideline", hint=hint), apply_default_css=False)
    with gr.Row():
        body = gr.Textbox(label="Text (Markdown)", lines=14, max_lines=30)
        preview = gr.HTML(elem_id="preview", apply_default_css=False)
    publish = gr.Button("Publish as a new version", variant="primary", size="md")
    versions = gr.HTML(js_on_load=ROW_BUTTONS, elem_id="versions", apply_default_css=False)

    bind(desk, body.change, show_preview, [body], [preview], quiet=True)
    bind(desk, publish.click, publish_text, [body], [versions], message=message)
    bind(desk, versions.pick, load_version, [], [body], message=message, picked=True)
    return [(show_versions, [versions]), (show_newest, [body])]


def show_newest(desk: Desk, account: Account) -> list[Any]:
    """The text that holds now."""
    guideline = desk.campaign.guideline()
    return [guideline.body if guideline else ""]


def show_preview(desk: Desk, account: Account, body: str) -> list[Any]:
    """The text as labelers will see it."""
    shown = Markup(render_markdown((body or "")[:MAX_PREVIEW_CHARS]))  # the renderer shows markup of its own only
    return [Markup('<div class="preview" role="region" aria-label="Preview" tabindex="0">{}</div>').format(shown)]


def publish_text(desk: Desk, account: Account, body: str) -> list[Any]:
    """Publish the text; the same once more is no new version."""
    before = desk.campaign.guideline()
    version = desk.campaign.publish_guideline(body or "", account.annotator_id)
    same = before is not None and before.version == version
    told = (
        f"Version {version} is this text already."
        if same
        else f"Version {version} is published; labelers see it from their next task on."
    )
    return [notice(told), *show_versions(desk, account)]


def show_versions(desk: Desk, account: Account) -> list[Any]:
    """All versions, newest first."""
    rows = [
        (
            item.version,
            show_moment(item.created_at),
            item.created_by or "–",
            button("Edit", f"version {item.version}", act="load", version=item.version),
        )
        for item in list_guidelines(desk.store.engine)
    ]
    return [table("Versions", ["Version", "Published (UTC)", "By", "Text"], rows, empty="No guideline is published yet.")]


def load_version(desk: Desk, account: Account, data: Mapping[str, str]) -> list[Any]:
    """Put an older text into the editor."""
    guideline = desk.campaign.guideline(data.get("version", ""))
    if guideline is None:
        raise NotFound(f"there is no version {data.get('version', '')!r}")
    return [notice(f"The text of version {guideline.version} is in the editor."), guideline.body]
