/** The labeler's page: puts the parts together and lets keys, buttons and server talk to one session. */

import { ApiError, backoffS, call } from './api.js';
import { Drafts } from './drafts.js';
import { bindKeys } from './keys.js';
import { Outbox, outboxOwner } from './outbox.js';
import { TaskQueue } from './queue.js';
import { Reports } from './reports.js';
import { Session } from './session.js';
import { View } from './view.js';

const ROOT_ID = 'gptsim-label';
const KEYS_SETTING = 'gptsim.single-keys';
const SIGNED_IN = 'gptsim.signed-in';
const REFRESH_MS = 5 * 60_000;
const LEAVE_MS = 2000;

/** Start the page as soon as Gradio has put its root into the document. */
export async function start() {
  let root;
  while (!(root = document.getElementById(ROOT_ID))) await new Promise(requestAnimationFrame);
  await new Page(root).boot();
}

class Page {
  #resume = false;

  constructor(root) {
    this.me = null;
    this.act = this.#actions();
    this.view = new View(root, this.act);
  }

  /** Learn who is signed in, send what was left from last time, then fetch work. */
  async boot() {
    this.me = await askWhoIAm();
    remember(SIGNED_IN, this.me.annotator_id);
    const { view } = this;
    const drafts = new Drafts(this.me.annotator_id);
    const actions = { onSelect: (position) => this.session.select(position), onReveal: () => this.session.toggleVeil() };
    this.outbox = new Outbox(this.me.annotator_id, (item) => this.#send(item), () => this.#updateSaving());
    const events = {
      onReady: () => this.session.stage || this.session.advance(),
      onState: () => view.update(this.session),
      onStage: (stage) => view.mount(stage),
    };
    this.queue = new TaskQueue(actions, events, () => this.session.inUse);
    this.session = new Session({ queue: this.queue, outbox: this.outbox, drafts, view, actions, me: () => this.me });
    this.reports = new Reports(this.session, view);
    this.#listen();
    this.#updateSaving();
    this.queue.fill();
    this.outbox.flush();
    await this.#showNewGuideline();
  }

  #updateSaving() {
    this.view.updateSaving(this.outbox, this.me.progress);
  }

  /** What buttons and keys do. Nothing happens before the server has said who is here. */
  #actions() {
    const whenReady = (act) => (...args) => (this.session ? act(...args) : undefined);
    const actions = {
      answer: (value) => this.session.answer(value),
      ask: (axisIdx) => this.session.ask(axisIdx),
      keep: () => this.session.correcting && this.session.finish(),
      skipAll: () => this.session.skipAll(),
      undo: () => this.session.undo(),
      veil: () => this.session.toggleVeil(),
      toggle: () => this.session.togglePlay(),
      step: (numFrames) => this.session.player?.step(numFrames),
      seek: (timeS) => this.session.player?.seek(timeS),
      speed: (direction) => this.session.setSpeed(direction),
      harm: () => this.reports.flag('harm'),
      broken: () => this.reports.flag('broken'),
      mark: () => this.reports.mark(),
      noBreaks: () => this.reports.noBreaks(),
      removeBreak: (mark) => this.reports.remove(mark),
      comment: () => this.reports.comment(),
      guideline: () => this.#showGuideline(),
      help: () => this.#showHelp(),
      aside: () => this.view.dialogs.aside(this.outbox),
      look: () => this.queue.fill(),
      leave: () => this.#leave(),
      modal: (open) => this.#onModal(open),
      resize: () => this.view.layout(this.session.stages),
    };
    return Object.fromEntries(Object.entries(actions).map(([name, act]) => [name, whenReady(act)]));
  }

  #listen() {
    const { act } = this;
    const numClips = () => this.session.draft?.task.clips.length ?? 0;
    const choose = (single, pair, many) => () => {
      const value = [null, single, pair][numClips()] ?? many;
      if (numClips() && value) act.answer(value);
    };
    const move = (by) => () => numClips() && this.session.select((this.session.active + by + numClips()) % numClips());
    bindKeys({
      1: choose('pass', 'left', 'rank-0'), 2: choose('fail', 'right', 'rank-1'), 3: choose(null, null, 'rank-2'),
      4: choose(null, null, 'rank-3'), 0: choose('unsure', 'tie', 'equal'), 9: choose(null, 'both_bad', null),
      backspace: choose(null, null, 'unrank'), s: choose('skip', 'skip', 'skip'), 'shift+s': act.skipAll,
      u: act.undo, enter: act.keep, v: act.veil, space: act.toggle, ',': () => act.step(-1), '.': () => act.step(1),
      '-': () => act.speed(-1), '+': () => act.speed(1), arrowleft: move(-1), arrowright: move(1),
      h: act.harm, x: act.broken, b: act.mark, n: act.noBreaks, c: act.comment, g: act.guideline, '?': act.help,
    }, () => this.view.dialogs.isOpen || recall(KEYS_SETTING) === 'off');
    window.addEventListener('storage', (event) => this.#onOtherTab(event));
    document.addEventListener('visibilitychange', () => this.#onVisibility());
    setInterval(() => document.hidden || this.#refresh(), REFRESH_MS);
  }

  /** Deliver an item of the outbox; only a clear yes counts as one. */
  async #send(item) {
    try {
      const receipt = await call(`/api/${item.kind}`, item.body);
      if (receipt.stored !== true) throw new ApiError('offline', 'The server did not confirm.');
      if (receipt.progress) this.me.progress = receipt.progress;
    } catch (error) {
      if (error.status !== 403) throw error;
      // Refused because somebody else signed in here meanwhile? Then it waits for its owner.
      const { annotator_id: now } = await call('/api/me');
      throw now === this.me.annotator_id ? error : new ApiError('signed-out', 'Someone else is signed in.');
    }
  }

  /** Two tabs of one person share their leases; two people in one browser must not be mixed up. */
  #onOtherTab({ key, newValue }) {
    if (!key || !newValue) return;
    if (key === SIGNED_IN && newValue !== this.me.annotator_id) {
      this.view.dialogs.taken(newValue).then(() => location.reload());
    } else if (outboxOwner(key) === this.me.annotator_id) {
      const { kind, body } = JSON.parse(newValue);
      if (kind === 'submit') this.session.forget(body.lease_id);
    }
  }

  #onVisibility() {
    if (!document.hidden) this.#refresh();
    this.#pauseWhile(document.hidden);
  }

  #onModal(open) {
    this.#pauseWhile(open);
  }

  #pauseWhile(away) {
    const { player } = this.session;
    if (away) {
      this.#resume ||= Boolean(player?.playing);
      player?.pause();
    } else if (!document.hidden && !this.view.dialogs.isOpen) {
      if (this.#resume) player?.play();
      else if (player && !player.started) this.session.autoplay();
      this.#resume = false;
    }
  }

  /** The guideline may have changed while the page was open. */
  async #refresh() {
    try {
      const me = await call('/api/me');
      if (me.annotator_id !== this.me.annotator_id) return;
      this.me = me;
      this.#updateSaving();
      if (!this.view.dialogs.isOpen) await this.#showNewGuideline();
    } catch {
      // the outbox and the queue say it where the server is away
    }
  }

  async #showNewGuideline() {
    const seen = `gptsim.guideline/${encodeURIComponent(this.me.annotator_id)}`;
    const version = this.me.guideline?.version;
    if (!version || recall(seen) === version) return;
    await this.view.dialogs.guideline(this.me.guideline);
    remember(seen, version);
  }

  #showGuideline() {
    if (this.me.guideline) this.view.dialogs.guideline(this.me.guideline);
    else this.view.say('There is no guideline for this campaign.');
  }

  #showHelp() {
    const numClips = this.session.draft?.task.clips.length ?? 2;
    this.view.dialogs.help(numClips, recall(KEYS_SETTING) !== 'off', (on) => remember(KEYS_SETTING, on ? 'on' : 'off'));
  }

  /** Sign out; work that was not begun goes back so that others need not wait for it. */
  async #leave() {
    const returned = this.session.untouchedLeases().map((leaseId) => call('/api/return', { lease_id: leaseId }));
    await Promise.race([Promise.allSettled(returned), new Promise((resolve) => setTimeout(resolve, LEAVE_MS))]);
    const form = Object.assign(document.createElement('form'), { method: 'post', action: '/sign-out', hidden: true });
    document.body.append(form);
    form.submit();
  }
}

async function askWhoIAm() {
  for (let failures = 1; ; failures += 1) {
    try {
      return await call('/api/me');
    } catch (error) {
      if (error.kind === 'signed-out') location.assign('/sign-in?next=/label');
      await new Promise((resolve) => setTimeout(resolve, backoffS(failures, error.retryAfterS) * 1000));
    }
  }
}

/** Settings of this browser; where it keeps none, the page works without. */
function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // forgotten at the next load
  }
}

function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
