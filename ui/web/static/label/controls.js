/** The row that plays and scrubs all clips together, and the row of reports about the active clip. */

import { BREAK_CATEGORIES, LETTERS, clipName, describeTime } from './answers.js';
import { button, cap, h, icon, set, text } from './dom.js';
import { SPEEDS } from './player.js';

const REDRAW_S = 0.04; // the slider needs no more while the clips play
const CATEGORY_WORDS = Object.fromEntries(BREAK_CATEGORIES);

export class Transport {
  #playing = null;
  #timeS = -1;

  /** @param {{toggle: Function, step: (n: number) => void, seek: (s: number) => void, speed: (d: number) => void}} actions */
  constructor(actions) {
    this.play = button({ class: 'g-tool g-play', 'aria-keyshortcuts': 'Space', onclick: () => actions.toggle() });
    const oninput = () => actions.seek(Number(this.slider.value));
    const range = { type: 'range', min: 0, max: 1, value: 0, step: 'any' };
    this.slider = h('input', { ...range, class: 'g-slider', 'aria-label': 'Time in all clips', oninput });
    this.ticks = h('div', { class: 'g-ticks', 'aria-hidden': 'true' });
    this.clock = h('span', { class: 'g-clock' });
    this.speed = button({ class: 'g-tool g-speed', onclick: () => actions.speed(0), 'aria-keyshortcuts': '- +' });
    const step = (name, words, key, by) => {
      const props = { class: 'g-tool', 'aria-label': words, title: `${words} (${key})`, 'aria-keyshortcuts': key };
      return button({ ...props, onclick: () => actions.step(by) }, icon(name), cap(key));
    };
    this.element = h('section', { class: 'g-transport', 'aria-label': 'Playback' },
      step('back', 'One frame back', ',', -1), this.play, step('forward', 'One frame forward', '.', 1),
      h('div', { class: 'g-track' }, this.slider, this.ticks), this.clock, this.speed);
  }

  /** @param {import('./player.js').Player} player */
  update(player) {
    if (this.#playing !== player.playing) {
      this.#playing = player.playing;
      const words = player.playing ? 'Pause' : 'Play';
      this.play.replaceChildren(icon(player.playing ? 'pause' : 'play'), cap('␣'));
      set(this.play, 'aria-label', words);
      set(this.play, 'title', `${words} (space)`);
    }
    text(this.speed, `${player.speed}×`);
    set(this.speed, 'aria-label', `Speed ${player.speed} times, one of ${SPEEDS.join(', ')}`);
    this.updateTime(player);
  }

  updateTime(player) {
    const { timeS, durationS } = player;
    if (player.playing && Math.abs(timeS - this.#timeS) < REDRAW_S) return;
    this.#timeS = timeS;
    if (Number(this.slider.max) !== durationS) this.slider.max = durationS;
    this.slider.value = timeS;
    text(this.clock, `${timeS.toFixed(1)} / ${durationS.toFixed(1)} s`);
    if (!player.playing) set(this.slider, 'aria-valuetext', `${timeS.toFixed(2)} of ${durationS.toFixed(2)} seconds`);
  }

  /** Show break-points on the time line. */
  mark(breaks, durationS) {
    this.ticks.replaceChildren(...breaks.filter((mark) => !mark.none).map((mark) => h('i', {
      class: `clip-${mark.position}`, style: `--at: ${Math.min(1, mark.time_s / durationS)}` })));
  }
}

const TOOLS = [
  ['harm', 'harm', 'Harm', 'H', 'shows harm'],
  ['broken', 'broken', 'Broken', 'X', 'is broken'],
  ['mark', 'mark', 'Break', 'B', 'stops making sense here'],
  ['clean', 'noBreaks', 'No breaks', 'N', 'makes sense to the end'],
];

const letterOf = (position) => h('span', { class: `g-letter clip-${position}` }, LETTERS[position]);

export class Tools {
  /** @param {Record<string, () => void>} actions harm, broken, mark, noBreaks, comment, undo, removeBreak(mark) */
  constructor(actions) {
    this.actions = actions;
    this.which = h('span', { class: 'g-which' });
    this.reports = TOOLS.map(([name, action, words, key]) => this.#tool(name, action, words, key));
    this.comment = this.#tool('comment', 'comment', 'Comment', 'C');
    this.undo = this.#tool('undo', 'undo', 'Undo', 'U');
    this.list = h('ul', { class: 'g-marks', 'aria-label': 'Break-points' });
    this.element = h('section', { class: 'g-tools', 'aria-label': 'Reports' },
      this.which, ...this.reports, this.comment, this.undo, this.list);
  }

  /** @param {import('./answers.js').Draft} draft */
  update(draft, active, canUndo) {
    this.which.hidden = draft.task.clips.length < 2;
    this.which.replaceChildren(letterOf(active), cap('← →'));
    const noBreaks = draft.breaks.some((mark) => mark.none && mark.position === active);
    const on = { harm: draft.flags.harm[active], broken: draft.flags.broken[active], clean: noBreaks };
    this.reports.forEach((element, idx) => {
      const [name, , words, , means] = TOOLS[idx];
      set(element, 'aria-label', `${words}: ${clipName(draft.task, active)} ${means}`);
      set(element, 'aria-pressed', name in on ? Boolean(on[name]) : null);
    });
    set(this.comment, 'aria-pressed', Boolean(draft.comment));
    this.undo.disabled = !canUndo;
    this.list.hidden = !draft.breaks.length;
    this.list.replaceChildren(...draft.breaks.map((mark) => this.#entry(mark)));
  }

  #entry(mark) {
    const words = mark.none ? 'No breaks' : `${CATEGORY_WORDS[mark.category]} at ${describeTime(mark)} · ${mark.severity}/3`;
    const remove = button({ class: 'g-remove', 'aria-label': `Remove: clip ${LETTERS[mark.position]}, ${words}`,
      onclick: () => this.actions.removeBreak(mark) }, icon('close'));
    return h('li', {}, letterOf(mark.position), words, remove);
  }

  #tool(name, action, words, key) {
    return button({ class: 'g-tool', 'data-tool': name, 'aria-keyshortcuts': key, onclick: () => this.actions[action]() },
      icon(name), h('span', { class: 'g-words' }, words), cap(key));
  }
}
