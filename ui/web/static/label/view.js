/** Everything that can be seen, and how it follows the session. */

import { rankOf } from './answers.js';
import { Tools, Transport } from './controls.js';
import { Dialogs } from './dialogs.js';
import { h, text } from './dom.js';
import { Panel } from './panel.js';
import { Placeholder, Top } from './top.js';

const TOAST_MS = 3500;

export class View {
  #toastTimer = 0;
  #size = [0, 0]; // of the area; asking the browser for it at a swap would make it lay out the page twice

  /**
   * @param {HTMLElement} root
   * @param {Record<string, any>} actions what buttons do; see page.js
   */
  constructor(root, actions) {
    this.top = new Top(actions);
    this.title = h('h1', {}, 'Label clips');
    this.context = h('p', {});
    this.placeholder = new Placeholder(actions.look);
    this.toast = h('p', { class: 'g-toast', role: 'status' });
    this.area = h('div', { class: 'g-area', role: 'group', 'aria-label': 'Clips' }, this.placeholder.element, this.toast);
    this.transport = new Transport(actions);
    this.tools = new Tools(actions);
    this.panel = new Panel(actions);
    this.app = h('div', { class: 'g-app', 'data-state': 'none' }, this.top.element,
      h('div', { class: 'g-task' }, this.title, this.context), this.area,
      h('div', { class: 'g-controls' }, this.transport.element, this.tools.element), this.panel.element);
    this.dialogs = new Dialogs(this.app, actions.modal);
    root.replaceChildren(this.app);
    new ResizeObserver(([{ contentRect }]) => {
      this.#size = [contentRect.width, contentRect.height];
      actions.resize();
    }).observe(this.area);
  }

  /** Put a stage into the page, out of sight. */
  mount(stage) {
    this.area.append(stage.element);
    this.layout([stage]);
  }

  layout(stages) {
    stages.forEach((stage) => stage.layout(...this.#size));
  }

  /**
   * Bring everything but the clock in line with the session.
   * @param {import('./session.js').Session} session
   */
  update(session) {
    const { draft, stage, active, correcting, player, queue } = session;
    const here = Boolean(draft && player);
    this.app.dataset.state = here ? 'task' : 'none';
    const waiting = draft || queue.state === 'ready' ? 'loading' : queue.state;
    this.placeholder.update(here ? '' : waiting);
    for (const part of [this.transport, this.tools, this.panel]) part.element.hidden = !here;
    text(this.title, here ? draft.task.task_text || 'Compare the clips' : 'Label clips');
    text(this.context, here ? draft.task.context_text : '');
    if (!here) return;
    stage.update({ active, flags: draft.flags, ranks: draft.task.clips.map((_, position) => rankOf(draft.order, position)) });
    this.panel.update(draft, correcting);
    this.tools.update(draft, active, session.canUndo);
    this.transport.mark(draft.breaks, player.durationS);
    this.transport.update(player);
  }

  /**
   * @param {import('./outbox.js').Outbox} outbox
   * @param {{num_today: number, num_total: number, num_open_tasks: number}} progress as the server last said
   */
  updateSaving(outbox, progress) {
    const underWay = outbox.waiting().filter((item) => item.kind === 'submit' && item.fresh).length;
    this.top.saving(outbox);
    this.top.progress({
      num_today: progress.num_today + underWay,
      num_total: progress.num_total + underWay,
      num_open_tasks: Math.max(0, progress.num_open_tasks - underWay),
    });
  }

  /** A short word over the clips, also read aloud. */
  say(words) {
    text(this.toast, '');
    requestAnimationFrame(() => text(this.toast, words));
    this.toast.classList.add('is-shown');
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => this.toast.classList.remove('is-shown'), TOAST_MS);
  }
}
