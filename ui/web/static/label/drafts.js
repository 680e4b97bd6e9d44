/** Half-finished tasks, kept in this browser so that a reload loses no answer, break-point or comment. */

import { askAxis, makeDraft } from './answers.js';

const KEEP_MS = 24 * 3600_000;
const KEPT = ['answers', 'recent', 'breaks', 'comment', 'flags'];

export class Drafts {
  #prefix;

  /** @param {string} annotatorId */
  constructor(annotatorId) {
    this.#prefix = `gptsim.draft/${encodeURIComponent(annotatorId)}/`;
    withStorage((storage) => {
      const old = (key) => Date.now() - (JSON.parse(storage.getItem(key)).at ?? 0) > KEEP_MS;
      const keys = Object.keys(storage).filter((key) => key.startsWith('gptsim.draft/') && old(key));
      keys.forEach((key) => storage.removeItem(key));
    });
  }

  /** A draft of the task with what was said before a reload. @param {import('./answers.js').Task} task */
  restore(task) {
    const draft = makeDraft(task);
    withStorage((storage) => {
      const saved = JSON.parse(storage.getItem(this.#prefix + task.lease_id) ?? 'null');
      if (!saved || saved.axes !== axesOf(task)) return; // other questions since then
      for (const name of KEPT) draft[name] = saved[name];
      askAxis(draft, Infinity);
    });
    return draft;
  }

  /** @param {import('./answers.js').Draft} draft */
  save(draft) {
    const { task, answers, breaks, comment, flags } = draft;
    const isEmpty = ![...answers, ...flags.harm, ...flags.broken, comment].some(Boolean) && !breaks.length;
    const key = this.#prefix + task.lease_id;
    const kept = Object.fromEntries(KEPT.map((name) => [name, draft[name]]));
    withStorage((storage) => {
      if (!isEmpty) storage.setItem(key, JSON.stringify({ ...kept, axes: axesOf(task), at: Date.now() }));
      else if (storage.getItem(key)) storage.removeItem(key);
    });
  }

  /** The draft is submitted. */
  drop(draft) {
    withStorage((storage) => storage.removeItem(this.#prefix + draft.task.lease_id));
  }
}

const axesOf = (task) => task.axes.map(({ name }) => name).join('\n');

/** Where the browser keeps nothing, half-finished tasks live as long as the page. */
function withStorage(use) {
  try {
    use(localStorage);
  } catch {
    // forbidden or full
  }
}
