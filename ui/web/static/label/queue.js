/** The work ahead: leases tasks, prepares their clips in order and keeps a few ready, so that the next pair is always there. */

import { backoffS, call } from './api.js';
import { Stage } from './stage.js';

const AHEAD = 4;
const MOST_LEASES = 16; // the server lends no more at once
const EMPTY_POLL_S = [10, 20, 30, 60];
const RENEW_S = [20, 240];

export class TaskQueue {
  #stages = [];
  #actions;
  #events;
  #inUse;
  #timer = 0;
  #busy = false;
  #again = false;
  #loading = false;
  #failures = 0;
  #empty = 0;

  /**
   * @param {object} actions passed to every Stage
   * @param {{onReady: () => void, onState: (state: string) => void, onStage: (stage: Stage) => void}} events
   * @param {() => {done: Set<string>, open: number}} inUse leases that are answered or on screen, and how many of them the
   *   server may still count as open
   */
  constructor(actions, events, inUse) {
    this.#actions = actions;
    this.#events = events;
    this.#inUse = inUse;
    /** @type {'loading'|'ready'|'empty'|'offline'|'signed-out'} */
    this.state = 'loading';
    document.addEventListener('visibilitychange', () => document.hidden || this.fill());
    window.addEventListener('online', () => this.fill());
  }

  /** The next task whose clips are ready, in order of lease. @returns {Stage|undefined} */
  take() {
    const idx = this.#stages.findIndex((stage) => stage.ready);
    return idx < 0 ? undefined : this.#stages.splice(idx, 1)[0];
  }

  /** Hand a task back to the front, for when an earlier one is looked at again. */
  putBack(stage) {
    this.#stages.unshift(stage);
  }

  /** Forget a task that was answered in another tab. */
  drop(leaseId) {
    this.#keep((stage) => stage.task.lease_id !== leaseId);
  }

  /** Lease what is missing and renew what is held. */
  async fill() {
    if (document.hidden) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    clearTimeout(this.#timer);
    try {
      const want = Math.min(MOST_LEASES, AHEAD + this.#inUse().open);
      const { tasks } = await call('/api/lease', { count: want });
      this.#failures = 0;
      this.#merge(tasks, tasks.length < want);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#busy = false;
    }
    this.#prepare();
    if (this.#again) {
      this.#again = false;
      this.fill();
    }
  }

  /** Time to lease more; two at a time, which halves the requests. */
  get isShort() {
    return this.#stages.length < AHEAD - 1;
  }

  /** @returns {readonly Stage[]} the tasks ahead */
  get stages() {
    return this.#stages;
  }

  #merge(tasks, complete) {
    const { done } = this.#inUse();
    const leased = new Set(tasks.map((task) => task.lease_id));
    // A lease that ran out while nobody looked may be someone else's work by now.
    if (complete) this.#keep((stage) => leased.has(stage.task.lease_id));
    const known = new Set(this.#stages.map((stage) => stage.task.lease_id));
    for (const task of tasks) {
      if (known.has(task.lease_id) || done.has(task.lease_id) || !task.axes.length || !task.clips.length) continue;
      const stage = new Stage(task, this.#actions);
      this.#stages.push(stage);
      this.#events.onStage(stage);
    }
    this.#empty = this.#stages.length ? 0 : this.#empty + 1;
    this.#setState(this.#stages.length ? 'ready' : 'empty');
    this.#later(this.#stages.length ? renewS(tasks) : EMPTY_POLL_S[Math.min(this.#empty, EMPTY_POLL_S.length) - 1]);
  }

  #fail(error) {
    this.#failures += 1;
    this.#setState(error.kind === 'signed-out' ? 'signed-out' : 'offline');
    this.#later(error.kind === 'signed-out' ? RENEW_S[0] : backoffS(this.#failures, error.retryAfterS));
  }

  async #prepare() {
    if (this.#loading) return;
    this.#loading = true;
    for (let stage; (stage = this.#stages.find((one) => !one.ready)); ) {
      await stage.load();
      if (stage.ready) this.#events.onReady();
    }
    this.#loading = false;
  }

  #keep(wanted) {
    this.#stages.filter((stage) => !wanted(stage)).forEach((stage) => stage.dispose());
    this.#stages = this.#stages.filter(wanted);
  }

  #setState(state) {
    this.state = state;
    this.#events.onState(state);
  }

  #later(seconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fill(), seconds * 1000);
  }
}

/** Half of what is left of the shortest lease, whatever the clock of this computer says, within sensible bounds. */
function renewS(tasks) {
  const left = Math.min(...tasks.map((task) => (Date.parse(task.expires_at) - Date.now()) / 2000));
  return Math.min(Math.max(left || RENEW_S[1], RENEW_S[0]), RENEW_S[1]);
}
