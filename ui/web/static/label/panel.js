/** The question and the big answer buttons. Built once per kind of task, so that focus stays where it is between pairs. */

import { choicesOf, describeAnswer, describeOrder, questionOf, rankOf } from './answers.js';
import { button, cap, h, set, text } from './dom.js';

export class Panel {
  #numClips = 0;
  #buttons = new Map();

  /** @param {{answer: (value: string) => void, ask: (axisIdx: number) => void, keep: () => void}} actions */
  constructor(actions) {
    this.actions = actions;
    this.steps = h('ol', { class: 'g-steps' });
    this.question = h('h2', { class: 'g-question', id: 'g-question' });
    this.note = h('p', { class: 'g-note' });
    const keep = { class: 'g-keep', hidden: true, onclick: actions.keep, 'aria-keyshortcuts': 'Enter' };
    this.keep = button(keep, 'Keep these answers', cap('↵'));
    this.choices = h('div', { class: 'g-choices', role: 'group', 'aria-labelledby': 'g-question' });
    this.element = h('section', { class: 'g-panel', 'aria-label': 'Your answer' },
      h('div', { class: 'g-ask' }, this.steps, this.question, this.note, this.keep), this.choices);
  }

  /**
   * @param {import('./answers.js').Draft} draft
   * @param {boolean} correcting an answered task is looked at again
   */
  update(draft, correcting) {
    const numClips = draft.task.clips.length;
    if (numClips !== this.#numClips) this.#build(numClips);
    const axis = draft.task.axes[draft.axisIdx];
    text(this.question, questionOf(axis, numClips));
    this.#updateSteps(draft);
    this.keep.hidden = !correcting;
    text(this.note, this.#noteFor(draft));
    const given = draft.answers[draft.axisIdx];
    for (const [value, element] of this.#buttons) {
      const rank = value.startsWith('rank-') ? rankOf(draft.order, Number(value.slice(5))) : 0;
      const pressed = rank > 0 || given?.choice === value || (value === 'equal' && draft.tieNext);
      set(element, 'aria-pressed', pressed);
      text(element.querySelector('.g-place'), rank ? `#${rank}` : '');
    }
  }

  /** Let a button light up for the moment of an answer, even where the key was used. */
  flash(value) {
    const element = this.#buttons.get(value);
    if (!element) return;
    element.classList.remove('is-hit');
    requestAnimationFrame(() => element.classList.add('is-hit'));
  }

  #noteFor(draft) {
    if (draft.task.clips.length < 3) return '';
    if (!draft.order.length) return 'Best first: press the clips in order.';
    if (draft.order.flat().length === draft.task.clips.length) return describeOrder(draft.order);
    return describeOrder(draft.order) + (draft.tieNext ? ' = …' : ' › …');
  }

  #updateSteps(draft) {
    const { axes, clips } = draft.task;
    const one = axes.length === 1;
    this.steps.hidden = one;
    if (one) return;
    this.steps.replaceChildren(...axes.map((axis, axisIdx) => {
      const said = describeAnswer(draft.answers[axisIdx], clips.length);
      const current = axisIdx === draft.axisIdx ? 'step' : null;
      const step = button({ class: 'g-step', 'aria-current': current, onclick: () => this.actions.ask(axisIdx) },
        axis.name, said && h('span', { class: 'g-said' }, said));
      return h('li', {}, step);
    }));
  }

  #build(numClips) {
    this.#numClips = numClips;
    this.#buttons.clear();
    this.choices.dataset.kind = numClips > 2 ? 'ranking' : numClips === 2 ? 'pair' : 'single';
    this.choices.replaceChildren(...choicesOf(numClips).map(({ value, key, words, tone }) => {
      const element = button({
        class: `g-choice tone-${tone}`,
        'data-value': value,
        'aria-pressed': false,
        'aria-keyshortcuts': key === '⌫' ? 'Backspace' : key,
        onclick: () => this.actions.answer(value),
      }, cap(key), h('span', { class: 'g-words' }, words), h('span', { class: 'g-place' }));
      element.addEventListener('animationend', () => element.classList.remove('is-hit'));
      this.#buttons.set(value, element);
      return element;
    }));
  }
}
