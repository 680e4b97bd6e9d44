/**
 * The clips of one task as elements: fetched whole, decoded to their first frame and kept out of sight until it is their
 * turn. Showing them is then a change of visibility, which needs no network and no new decoder.
 */

import { backoffS } from './api.js';
import { LETTERS, clipName } from './answers.js';
import { h, icon, set, text } from './dom.js';

const READY_TIMEOUT_MS = 4000;
const PIXELATE_FROM = 1.5;
const HEAD_PX = 34;
const GAP_PX = 14;

export class Stage {
  #abort = new AbortController();
  #urls = [];

  /**
   * @param {import('./answers.js').Task} task
   * @param {{onSelect: (position: number) => void, onReveal: () => void}} actions
   */
  constructor(task, actions) {
    this.task = task;
    /** @type {?import('./answers.js').Draft} what was said about it so far */
    this.draft = null;
    this.ready = false;
    this.revealed = false;
    this.veiled = false;
    this.disposed = false;
    this.cards = task.clips.map((_, position) => makeCard(clipName(task, position), position, actions.onSelect));
    const reveal = h('button', { type: 'button', class: 'g-reveal', onclick: actions.onReveal },
      icon('eye'), h('span', {}, 'Show the clips'), h('kbd', { 'aria-hidden': 'true' }, 'V'));
    this.veilText = h('p', {});
    this.veil = h('div', { class: 'g-veil', hidden: true }, this.veilText, reveal);
    const cards = this.cards.map((card) => card.element);
    this.element = h('div', { class: `g-stage of-${cards.length}`, inert: true }, ...cards, this.veil);
  }

  /** Fetch and decode everything; resolves when all clips can be shown, or can't be played at all. */
  async load() {
    await Promise.all(this.cards.map((card, position) => this.#loadClip(card, this.task.clips[position].url)));
    this.ready = !this.#abort.signal.aborted;
  }

  /** The clips that can be played, for a Player. */
  get playable() {
    const { clips } = this.task;
    return this.cards.flatMap(({ video, failed }, idx) => (failed ? [] : [{ video, fpsHz: clips[idx].fps_hz ?? null }]));
  }

  setVisible(visible) {
    set(this.element, 'inert', !visible);
    this.element.classList.toggle('is-current', visible);
  }

  setVeil(words) {
    this.veiled = Boolean(words);
    text(this.veilText, words);
    this.veil.hidden = !words;
    this.element.classList.toggle('is-veiled', this.veiled);
  }

  /** Make the clips as large as the area allows, in one row or in two. */
  layout(areaWidth, areaHeight) {
    const sizes = this.cards.map((card, position) => nativeSize(card.video, this.task.clips[position]));
    const aspect = Math.max(...sizes.map(([width, height]) => width / height));
    const { columns, width } = fitClips(sizes.length, aspect, areaWidth, areaHeight);
    this.element.style.setProperty('--columns', columns);
    this.element.style.setProperty('--clip-width', `${width}px`);
    this.element.style.setProperty('--clip-aspect', aspect);
    const sharp = (native) => width >= native * PIXELATE_FROM;
    this.cards.forEach(({ video }, idx) => video.classList.toggle('is-pixelated', sharp(sizes[idx][0])));
  }

  /** Show which clip is active, its flags and its rank. */
  update({ active, flags, ranks }) {
    this.cards.forEach((card, position) => {
      const isActive = active === position && this.cards.length > 1;
      const marks = [flags.harm[position] && 'Harmful', flags.broken[position] && 'Broken'].filter(Boolean);
      set(card.element, 'aria-current', isActive ? 'true' : null);
      const said = [clipName(this.task, position), isActive && 'active', ...marks].filter(Boolean);
      set(card.element, 'aria-label', said.join(', '));
      text(card.marks, marks.join(' · '));
      text(card.rank, ranks[position] ? String(ranks[position]) : '');
    });
  }

  /** Let go of decoders and memory. */
  dispose() {
    this.disposed = true;
    this.ready = false;
    this.#abort.abort();
    this.element.remove();
    for (const { video } of this.cards) {
      video.removeAttribute('src');
      video.load();
    }
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
  }

  async #loadClip(card, url) {
    const blob = await this.#fetchBlob(url);
    if (this.#abort.signal.aborted) return;
    card.failed = !blob;
    if (blob) {
      this.#urls.push(URL.createObjectURL(blob));
      card.video.src = this.#urls.at(-1);
      card.failed = !(await canPlay(card.video));
    }
    card.element.classList.toggle('is-failed', card.failed);
  }

  /** The whole clip; waits out an outage. @returns {Promise<?Blob>} null where the server has no such clip */
  async #fetchBlob(url) {
    for (let failures = 1; !this.#abort.signal.aborted; failures += 1) {
      try {
        const response = await fetch(url, { signal: this.#abort.signal });
        if (response.ok) return await response.blob();
        if ([400, 403, 404, 410].includes(response.status)) return null;
      } catch {
        // offline, or this stage is no longer wanted
      }
      await new Promise((resolve) => setTimeout(resolve, backoffS(failures) * 1000));
    }
    return null;
  }
}

function makeCard(name, position, onSelect) {
  // No `loop`: the player restarts all clips together. Muted and inline, else browsers refuse to play unasked.
  const video = h('video', { muted: true, playsinline: true, preload: 'auto', tabindex: '-1', 'aria-label': name });
  video.muted = true;
  video.disablePictureInPicture = true;
  const rank = h('span', { class: 'g-rank', 'aria-hidden': 'true' });
  const marks = h('span', { class: 'g-flags' });
  const head = h('div', { class: 'g-card-head' }, h('span', { class: 'g-letter' }, LETTERS[position]), marks);
  const failedText = h('p', { class: 'g-failed' }, 'This clip can’t be played. Report it with X, then skip with S.');
  const select = () => onSelect(position);
  const props = { class: `g-card clip-${position}`, role: 'group', tabindex: '0', onfocus: select, onpointerdown: select };
  const element = h('div', props, head, h('div', { class: 'g-frame' }, video, rank, failedText));
  return { element, video, marks, rank, failed: false };
}

/** Resolves true once the first frame is decoded and enough is buffered to play through, false where it can't be played. */
function canPlay(video) {
  return new Promise((resolve) => {
    const finish = () => resolve(!video.error && video.readyState >= HTMLMediaElement.HAVE_METADATA);
    video.addEventListener('canplaythrough', finish, { once: true });
    video.addEventListener('error', finish, { once: true });
    setTimeout(finish, READY_TIMEOUT_MS); // phones may decode only once it plays
  });
}

function nativeSize(video, { width, height }) {
  return [video.videoWidth || width || 1, video.videoHeight || height || 1];
}

/**
 * The largest clips that fit: tries every number of columns.
 * @returns {{columns: number, width: number}} width of one clip in CSS pixels
 */
export function fitClips(numClips, aspect, areaWidth, areaHeight) {
  let best = { columns: 1, width: 0 };
  for (let columns = 1; columns <= numClips; columns += 1) {
    const rows = Math.ceil(numClips / columns);
    const byWidth = (areaWidth - GAP_PX * (columns - 1)) / columns;
    const byHeight = ((areaHeight - GAP_PX * (rows - 1)) / rows - HEAD_PX) * aspect;
    const width = Math.floor(Math.min(byWidth, byHeight));
    if (width > best.width) best = { columns, width };
  }
  return { ...best, width: Math.max(best.width, 96) };
}
