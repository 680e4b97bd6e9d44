"""The admin's tab about people: who they are, inviting them, letting them go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from align.errors import DataError, GptsimError, NotFound
from align.preferences.accounts import INVITATION_S, Account, Invitation, Role, clean_name
from align.preferences.campaign.overview import Person, list_people
from align.preferences.campaign.withdrawal import AffectedModel, affected_models
from ui.web.desk import ROW_BUTTONS, Desk, bind
from ui.web.markup import badge, button, join, notice, section, show_age, show_moment, table

LINK = """
element.addEventListener('click', async (event) => {
  if (!event.target.closest('button[data-copy]')) return;
  const field = element.querySelector('input');
  field.select();
  try { await navigator.clipboard.writeText(field.value); } catch { document.execCommand('copy'); }
  element.querySelector('[role=status]').textContent = 'Copied.';
});
watch('value', () => {
  const field = element.querySelector('input');
  if (!field) return;
  field.value = location.origin + field.dataset.path;
  field.focus();
  field.select();
});
"""
"""Only the browser knows for sure under which address it came here."""
TO_PANEL = """() => {
  const go = (tries) => {
    const button = document.querySelector('#person-panel button');
    if (button && button.offsetParent) button.focus();
    else if (tries) setTimeout(go, 50, tries - 1);
  };
  go(20);
}"""
TO_TABLE = "() => setTimeout(() => document.dispatchEvent(new Event('rows-back')), 100)"


def build(desk: Desk, message: gr.HTML) -> Sequence[tuple[Any, Sequence[Any]]]:
    """Lay the tab out; returns what reads its numbers again, with where they go."""
    people = gr.HTML(js_on_load=ROW_BUTTONS, elem_id="people", apply_default_css=False)
    chosen = gr.State("")
    with gr.Column(visible=False, elem_id="person-panel") as panel:
        about = gr.HTML(apply_default_css=False)
        with gr.Row():
            role = gr.Button("Change role", size="md")
            lock = gr.Button("Disable or enable", size="md")
            link = gr.Button("Make a sign-in link", size="md")
            close = gr.Button("Close", size="md")
        with gr.Accordion("Withdraw this person's data", open=False):
            typed = gr.Textbox(
                label="Type the name to delete everything this person did",
                info="Votes, judgements, flags, break-points and the account. This can't be undone.",
                autofocus=False,
            )
            delete = gr.Button("Delete everything", variant="stop", size="md")
    gr.HTML(section("Invite", hint="A link lets one person in, once. Who has it needs no password."), apply_default_css=False)
    with gr.Row():
        new_role = gr.Radio(["labeler", "admin"], value="labeler", label="Role")
        new_name = gr.Textbox(label="Name (optional)", info="Empty lets the person choose one.", max_length=64)
    invite = gr.Button("Make an invitation link", variant="primary", size="md")
    fresh = gr.HTML(js_on_load=LINK, elem_id="invitation", apply_default_css=False)
    invitations = gr.HTML(js_on_load=ROW_BUTTONS, elem_id="invitations", apply_default_css=False)

    shown = [about, role, lock]
    picked = bind(desk, people.pick, open_panel, [], [panel, chosen, *shown, typed], message=message, picked=True)
    picked.then(None, js=TO_PANEL)
    bind(desk, invitations.pick, revoke, [], [invitations], message=message, picked=True)
    bind(desk, close.click, close_panel, [], [panel, chosen]).then(None, js=TO_TABLE)
    tables = [people, invitations]
    bind(desk, role.click, change_role, [chosen], [*tables, *shown], message=message)
    bind(desk, lock.click, change_lock, [chosen], [*tables, *shown], message=message)
    bind(desk, link.click, make_link, [chosen], [*tables, fresh], message=message)
    bind(desk, delete.click, withdraw, [chosen, typed], [*tables, panel, chosen, typed], message=message)
    bind(desk, invite.click, invite_person, [new_role, new_name], [*tables, fresh, new_name], message=message)
    return [(show_people, tables)]


def show_people(desk: Desk, account: Account) -> list[Any]:
    """The table of people, and the one of invitations that are still open."""
    rows = [_row(person, account) for person in list_people(desk.store.engine)]
    header = ["Name", "Role", "Answers", "Tasks", "Today", "Holds now", "Last seen", "Change"]
    return [table("People", header, rows, empty="Nobody is here yet."), _show_invitations(desk)]


def _show_invitations(desk: Desk) -> Markup:
    header = ["For", "Role", "Made by", "Made (UTC)", "Open until (UTC)", "Change"]
    rows = [_invitation_row(item) for item in desk.accounts.invitations()]
    return table("Open invitations", header, rows, empty="Every link is used, expired or revoked.")


def _row(person: Person, account: Account) -> Sequence[Any]:
    name: Any = person.annotator_id
    if name == account.annotator_id:
        name = Markup("{} {}").format(name, badge("you"))
    role = badge("simulated") if person.simulated else person.role or "no account"
    if person.disabled:
        role = Markup("{} {}").format(role, badge("disabled", "bad"))
    counts = (person.num_answers, person.num_done, person.num_today, person.num_held)
    return (
        name,
        role,
        *counts,
        show_age(person.last_seen),
        button("Manage", person.annotator_id, act="open", who=person.annotator_id),
    )


def _invitation_row(item: Invitation) -> Sequence[Any]:
    whom = item.annotator_id or "whoever has it"
    about = f"{item.role} link for {whom}, made {item.created_at[:16].replace('T', ' ')}"
    times = (show_moment(item.created_at), show_moment(item.expires_at))
    act = button("Revoke", about, act="revoke", invitation=item.token_hash)
    return (whom, item.role, item.created_by or "the command line", *times, act)


def revoke(desk: Desk, account: Account, data: Mapping[str, str]) -> list[Any]:
    """Make the link useless whose button was pressed."""
    desk.accounts.revoke(data.get("invitation", ""))
    return [notice("The link is revoked; nobody gets in with it any more."), _show_invitations(desk)]


def open_panel(desk: Desk, account: Account, data: Mapping[str, str]) -> list[Any]:
    """Show what can be done about the person whose button was pressed."""
    person = _find(desk, data.get("who", ""))
    return [None, gr.update(visible=True), person.annotator_id, *_describe(person), ""]


def close_panel(desk: Desk, account: Account) -> list[Any]:
    """Hide the panel."""
    return [gr.update(visible=False), ""]


def _find(desk: Desk, name: str) -> Person:
    found = next((person for person in list_people(desk.store.engine) if person.annotator_id == name), None)
    if found is None:
        raise NotFound(f"there is nobody called {name!r} any more")
    return found


def _describe(person: Person) -> list[Any]:
    text = Markup("<h2>{}</h2>").format(person.annotator_id)
    if person.role is None:
        text += Markup('<p class="hint">Has no account; a sign-in link makes one.</p>')
    known = person.role is not None
    role = gr.update(value="Make labeler" if person.role == "admin" else "Make admin", visible=known)
    return [text, role, gr.update(value="Enable" if person.disabled else "Disable", visible=known)]


def change_role(desk: Desk, account: Account, name: str) -> list[Any]:
    """Make a labeler an admin or an admin a labeler."""
    lower = _find(desk, name).role == "admin"
    role: Role = "labeler" if lower else "admin"
    desk.accounts.set_role(name, role)
    told = f"{name} is a labeler now; links that {name} made are revoked." if lower else f"{name} is an admin now."
    return [notice(told), *show_people(desk, account), *_describe(_find(desk, name))]


def change_lock(desk: Desk, account: Account, name: str) -> list[Any]:
    """Lock somebody out, or let them in again."""
    disabled = not _find(desk, name).disabled
    desk.accounts.disable(name, disabled)
    locked = f"{name} can't sign in any more, and links made by or for {name} are revoked; the answers stay."
    told = locked if disabled else f"{name} can sign in again."
    return [notice(told), *show_people(desk, account), *_describe(_find(desk, name))]


def make_link(desk: Desk, account: Account, name: str) -> list[Any]:
    """A link that signs this person in."""
    person = _find(desk, name)
    if person.simulated or person.disabled:
        raise DataError(f"{name} is {'a program' if person.simulated else 'disabled'} and can't sign in")
    token = desk.accounts.invite(person.role or "labeler", account.annotator_id, annotator_id=name)  # type: ignore[arg-type]
    return [None, *show_people(desk, account), _link(token, name)]


def invite_person(desk: Desk, account: Account, role: str, name: str) -> list[Any]:
    """A link for somebody new."""
    known = clean_name(name) if name and name.strip() else None
    if known and any(person.annotator_id == known and person.role for person in list_people(desk.store.engine)):
        raise DataError(f"{known} is here already; press Manage beside the name and make a sign-in link")
    token = desk.accounts.invite(role, account.annotator_id, annotator_id=known)  # type: ignore[arg-type]
    return [None, *show_people(desk, account), _link(token, known or f"a new {role}"), ""]


def _link(token: str, whom: str) -> Markup:
    path = f"/join?token={token}"
    return Markup(
        '<div class="link"><label for="invitation-link">Link for {}, works once within {} days, and is shown only now</label>'
        '<input id="invitation-link" readonly data-path="{}" value="{}">'
        '<button type="button" class="row-button" data-copy>Copy</button><span role="status"></span></div>'
    ).format(whom, INVITATION_S // 86400, path, path)


def withdraw(desk: Desk, account: Account, name: str, typed: str) -> list[Any]:
    """Delete everything of one person, and say which models were trained on it."""
    if not name or (typed or "").strip() != name:
        raise DataError(f"nothing was deleted: type {name!r} to confirm")
    counts = desk.campaign.withdraw(name)
    vote_ids = counts.pop("vote_ids")
    deleted = ", ".join(f"{number} {key.removeprefix('num_')}" for key, number in counts.items() if number) or "nothing"
    told = Markup("<p>Everything of {} is deleted: {}.</p>{}").format(name, deleted, _trained_on(desk, vote_ids))
    return [notice(told), *show_people(desk, account), gr.update(visible=False), "", ""]


def _trained_on(desk: Desk, vote_ids: Sequence[str]) -> Markup:
    if not vote_ids:
        return Markup("<p>There was no vote that a model could have learned from.</p>")
    try:
        models = affected_models(vote_ids, desk.runs_dir)
    except (GptsimError, OSError) as error:
        return Markup("<p>Which models were trained on them is not known: {}.</p>").format(error)
    if not models:
        return Markup("<p>No model under {} was trained on them.</p>").format(desk.runs_dir)
    return Markup("<p>Models under {} that learned from them:</p><ul>{}</ul>").format(desk.runs_dir, join(map(_model, models)))


def _model(model: AffectedModel) -> Markup:
    return Markup("<li>{} ({}): {}</li>").format(model.path, model.kind.replace("_", " "), model.reason)
