/** The bar at the top: progress, what is saved, guideline, help, sign-out. And what stands where there is no clip. */

import { button, cap, count, h, icon, set, text } from './dom.js';

const SAVING_MS = 1200;

export class Top {
  #timer = 0;

  /** @param {Record<string, () => void>} actions guideline, help, leave, aside */
  constructor(actions) {
    this.today = h('strong', {});
    this.rest = h('span', { class: 'g-rest' });
    this.bar = h('i', {});
    this.save = h('span', { class: 'g-save', role: 'status' });
    this.aside = button({ class: 'g-tool g-warn', hidden: true, onclick: actions.aside });
    this.signIn = h('a', { class: 'g-tool g-warn', href: '/sign-in?next=/label', hidden: true }, 'Sign in again');
    const tool = (name, words, key, onclick) => {
      const title = key ? `${words} (${key})` : words;
      const props = { class: 'g-tool', 'aria-label': words, title, 'aria-keyshortcuts': key, onclick };
      return button(props, icon(name), key && cap(key));
    };
    this.guideline = tool('guide', 'Guideline', 'G', actions.guideline);
    this.element = h('header', { class: 'g-top' },
      h('span', { class: 'g-brand' }, 'gptsim'), h('p', { class: 'g-progress' }, this.today, this.rest),
      h('span', { class: 'g-gap' }), this.save, this.aside, this.signIn,
      this.guideline, tool('help', 'Help', '?', actions.help), tool('leave', 'Sign out', null, actions.leave),
      h('div', { class: 'g-bar', 'aria-hidden': 'true' }, this.bar));
  }

  /** @param {{num_today: number, num_total: number, num_open_tasks: number}} progress with what is on its way counted in */
  progress({ num_today: today, num_total: total, num_open_tasks: open }) {
    text(this.today, `${today} today`);
    text(this.rest, ` · ${total} in all · ${open} left`);
    this.bar.style.setProperty('--done', total / Math.max(1, total + open));
  }

  /** @param {import('./outbox.js').Outbox} outbox */
  saving(outbox) {
    const waiting = outbox.waiting().length;
    const refused = outbox.aside().length;
    this.signIn.hidden = outbox.state !== 'signed-out';
    this.aside.hidden = !refused;
    text(this.aside, `${count(refused, 'answer')} not saved`);
    clearTimeout(this.#timer);
    // A round trip is not worth a word; only what takes longer is.
    if (waiting && outbox.state === 'ok') this.#timer = setTimeout(() => this.#say('Saving …', 'busy'), SAVING_MS);
    else this.#say(...wordsFor(outbox, waiting, refused));
  }

  #say(words, tone) {
    text(this.save, words);
    set(this.save, 'data-tone', tone);
  }
}

function wordsFor(outbox, waiting, refused) {
  const answers = count(waiting, 'answer');
  if (!outbox.durable) return ['This browser can’t keep answers: stay on this page until they are saved', 'wait'];
  if (outbox.state === 'signed-out') return [waiting ? `Signed out · ${answers} kept here` : 'Signed out', 'wait'];
  if (waiting) return [`${answers} waiting to be saved`, 'wait'];
  return refused ? ['', 'wait'] : ['All saved', 'ok'];
}

const PLACEHOLDERS = {
  loading: ['One moment', 'The next clips are on their way.'],
  empty: ['All done, thank you', 'Nothing is waiting for you right now. New clips appear here by themselves.'],
  offline: ['No connection', 'Your answers are safe. This page goes on by itself when the server is back.'],
  'signed-out': ['You are signed out', 'Your answers are kept in this browser. Sign in again and they are sent.'],
};

/** What stands in place of the clips while there are none. */
export class Placeholder {
  /** @param {() => void} onLook */
  constructor(onLook) {
    this.title = h('h2', {});
    this.words = h('p', {});
    this.look = button({ class: 'g-tool', onclick: onLook }, 'Look again');
    this.signIn = h('a', { class: 'g-primary', href: '/sign-in?next=/label' }, 'Sign in');
    const dots = h('div', { class: 'g-dots', 'aria-hidden': 'true' }, h('i'), h('i'), h('i'));
    this.element = h('div', { class: 'g-placeholder' }, dots, this.title, this.words, this.look, this.signIn);
  }

  /** @param {string} state a key of PLACEHOLDERS, or empty to hide it */
  update(state) {
    this.element.hidden = !state;
    if (!state) return;
    const [title, words] = PLACEHOLDERS[state];
    this.element.dataset.state = state;
    text(this.title, title);
    text(this.words, words);
    this.look.hidden = state !== 'empty';
    this.signIn.hidden = state !== 'signed-out';
  }
}
