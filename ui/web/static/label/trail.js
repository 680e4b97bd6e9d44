/** Tasks that were answered, so that an undo finds them. */

const KEEP_PLAYABLE = 2; // their clips stay decoded
const KEEP_DRAFTS = 30;

/** @typedef {import('./stage.js').Stage} Stage */

export class Trail {
  /** @type {Stage[]} the latest last */
  #past = [];
  /** @type {Stage[]} those that several undos went past, the earliest last */
  #passed = [];

  get isEmpty() {
    return !this.#past.length;
  }

  /** @returns {Stage[]} */
  get stages() {
    return [...this.#past, ...this.#passed];
  }

  /** A task is answered, for the first time or again; what an undo went past stands behind it as before. */
  add(stage) {
    this.#past.push(stage, ...this.#passed.splice(0).reverse());
    this.#past.slice(0, -KEEP_PLAYABLE).filter((old) => !old.disposed).forEach((old) => old.dispose());
    this.#past.splice(0, this.#past.length - KEEP_DRAFTS);
  }

  /** @returns {Stage|undefined} the task before */
  back() {
    return this.#past.pop();
  }

  /** Keep a task that an undo goes past. */
  pass(stage) {
    this.#passed.push(stage);
  }
}
