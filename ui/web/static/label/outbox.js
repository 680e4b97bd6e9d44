/**
 * What a labeler did and the server has not yet acknowledged. It is written to localStorage before anything is sent and
 * dropped only on acknowledgement, so it survives a reload, an outage and a restart of the server. Each item has its own
 * storage key: two tabs never overwrite each other. Keys hold the annotator, so nobody sends another person's answers.
 */

import { backoffS, makeId } from './api.js';

const SIGNED_OUT_RETRY_S = 60;
const PREFIX = 'gptsim.outbox/';

/** Whose a storage key is; undefined for keys that are no outbox item. */
export function outboxOwner(key) {
  return key.startsWith(PREFIX) ? decodeURIComponent(key.slice(PREFIX.length).split('/')[0]) : undefined;
}

/**
 * @typedef {object} Item
 * @property {string} key where it is stored; sorts by age
 * @property {'submit'|'flag'} kind
 * @property {object} body what is sent, its idempotency key included
 * @property {boolean} fresh false for a correction of an earlier answer
 * @property {string} [error] why the server refused it, for items set aside
 */

export class Outbox {
  #prefix;
  #asidePrefix;
  #send;
  #onChange;
  #storage;
  #timer = 0;
  #busy = false;
  #failures = 0;
  #counter = 0;

  /**
   * @param {string} annotatorId
   * @param {(item: Item) => Promise<void>} send resolves on acknowledgement, throws an ApiError
   * @param {() => void} onChange
   */
  constructor(annotatorId, send, onChange) {
    const owner = encodeURIComponent(annotatorId);
    this.#prefix = `${PREFIX}${owner}/`;
    this.#asidePrefix = `gptsim.aside/${owner}/`;
    this.#send = send;
    this.#onChange = onChange;
    this.#storage = openStorage();
    /** @type {'ok'|'retrying'|'signed-out'} */
    this.state = 'ok';
    this.durable = !(this.#storage instanceof MemoryStorage);
    window.addEventListener('online', () => this.flush());
    window.addEventListener('focus', () => this.flush());
  }

  /** Keep an item, then send it when its turn comes. */
  add(kind, body, fresh = true) {
    this.#counter += 1;
    const age = [Date.now(), this.#counter].map((part) => part.toString(36).padStart(9, '0')).join('-');
    this.#write(`${this.#prefix}${age}-${makeId()}`, { kind, body, fresh });
    this.#onChange();
    queueMicrotask(() => this.flush());
  }

  /** @returns {Item[]} oldest first */
  waiting() {
    return this.#read(this.#prefix);
  }

  /** @returns {Item[]} refused by the server, kept for the labeler to see */
  aside() {
    return this.#read(this.#asidePrefix);
  }

  /** Leases with an answer on its way; the server may still call them open. */
  leaseIds() {
    return new Set(this.waiting().filter((item) => item.kind === 'submit').map((item) => item.body.lease_id));
  }

  /** Send everything in order; stops when the server is away, goes round what it fails on. */
  async flush() {
    if (this.#busy) return;
    this.#busy = true;
    clearTimeout(this.#timer);
    try {
      const tried = new Set();
      let failed = false;
      // What comes after a failed item of the same task may correct it, so it waits too.
      const next = () => this.waiting().find(({ key, body }) => !tried.has(key) && !tried.has(body.lease_id));
      for (let item = next(); item; item = next()) {
        const { sent, stop } = await this.#deliver(item);
        failed ||= !sent;
        if (stop) break;
        tried.add(sent ? item.key : item.body.lease_id);
      }
      if (!failed) {
        this.#failures = 0;
        this.state = 'ok';
      }
    } finally {
      this.#busy = false;
      this.#onChange();
    }
  }

  /** Give a refused item another chance. */
  retry(item) {
    this.#write(item.key.replace(this.#asidePrefix, this.#prefix), { kind: item.kind, body: item.body, fresh: item.fresh });
    this.discard(item);
    this.flush();
  }

  /** Only ever called because the labeler asked for it. */
  discard(item) {
    this.#storage.removeItem(item.key);
    this.#onChange();
  }

  async #deliver(item) {
    try {
      await this.#send(item);
      this.#storage.removeItem(item.key);
    } catch (error) {
      if (error.kind !== 'refused') return { sent: false, stop: this.#wait(error) };
      // Written to its new place before it leaves the old one: a crash in between shows it twice, never not at all.
      this.#write(item.key.replace(this.#prefix, this.#asidePrefix), { ...item, error: error.message });
      this.#storage.removeItem(item.key);
    }
    this.#onChange();
    return { sent: true, stop: false };
  }

  /** @returns {boolean} whether there is no use in trying the next one */
  #wait(error) {
    this.#failures += 1;
    this.state = error.kind === 'signed-out' ? 'signed-out' : 'retrying';
    const seconds = error.kind === 'signed-out' ? SIGNED_OUT_RETRY_S : backoffS(this.#failures, error.retryAfterS);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), seconds * 1000);
    return error.status !== 500;
  }

  #read(prefix) {
    const keys = Object.keys(this.#storage).filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => ({ ...JSON.parse(this.#storage.getItem(key)), key }));
  }

  #write(key, item) {
    try {
      this.#storage.setItem(key, JSON.stringify(item));
    } catch {
      // Full: the page goes on from memory and the header says that this browser can't keep answers.
      this.#storage = moveToMemory(this.#storage);
      this.#storage.setItem(key, JSON.stringify(item));
      this.durable = false;
    }
  }
}

function openStorage() {
  try {
    localStorage.setItem('gptsim.probe', '1');
    localStorage.removeItem('gptsim.probe');
    return localStorage;
  } catch {
    return new MemoryStorage();
  }
}

function moveToMemory(storage) {
  const memory = new MemoryStorage();
  for (const key of Object.keys(storage)) memory.setItem(key, storage.getItem(key));
  return memory;
}

/** Stands in where a browser forbids storage. Items are own properties, as in localStorage. */
class MemoryStorage {
  getItem(key) {
    return this[key] ?? null;
  }
  setItem(key, value) {
    this[key] = value;
  }
  removeItem(key) {
    delete this[key];
  }
}
