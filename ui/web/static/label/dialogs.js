/** Dialogs: help, guideline, comment, break-point, answers that could not be saved. Each resolves when it is closed. */

import { BREAK_CATEGORIES, SEVERITIES } from './answers.js';
import { button, cap, h, icon } from './dom.js';
import { helpFor } from './keys.js';

const COMMENT_CHARS = 2000;

export class Dialogs {
  /**
   * @param {HTMLElement} parent
   * @param {(open: boolean) => void} onModal
   */
  constructor(parent, onModal) {
    this.parent = parent;
    this.onModal = onModal;
  }

  get isOpen() {
    return this.parent.querySelector('dialog') !== null;
  }

  /** @returns {Promise<void>} */
  help(numClips, keysOn, onKeysOn) {
    const groups = helpFor(numClips).map(([title, rows]) => h('section', {}, h('h3', {}, title),
      h('dl', {}, ...rows.flatMap(([keys, words]) => [h('dt', {}, h('kbd', {}, keys)), h('dd', {}, words)]))));
    const toggle = h('input', { type: 'checkbox', onchange: () => onKeysOn(toggle.checked) });
    toggle.checked = keysOn;
    return this.#open('Keys', [h('div', { class: 'g-help' }, ...groups), h('label', { class: 'g-check' }, toggle,
      'Single keys answer and play. Switch this off where they get in the way of a screen reader or of speech input.')]);
  }

  /** @param {{version: string, html: string}} guideline its html comes sanitised from the server */
  guideline({ version, html }) {
    const body = h('div', { class: 'g-prose', tabindex: '0', role: 'region', 'aria-label': 'Guideline' });
    body.innerHTML = html;
    return this.#open('Guideline', [body, h('p', { class: 'g-small' }, `Version ${version}`)], 'I have read it');
  }

  /** @returns {Promise<?string>} null where it was dismissed */
  async comment(words) {
    const area = h('textarea', { maxlength: COMMENT_CHARS, rows: 5, autofocus: true, 'aria-label': 'Comment',
      placeholder: 'What should whoever reads the votes know about this task?' });
    area.value = words;
    area.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
    });
    const saved = await this.#open('Comment', [area, h('p', { class: 'g-small' }, 'Ctrl + Enter saves.')], 'Save');
    return saved ? area.value.trim() : null;
  }

  /** @returns {Promise<?{category: string, severity: number}>} null where it was dismissed */
  async mark(title) {
    const category = radios('category', 'What is wrong?', BREAK_CATEGORIES, BREAK_CATEGORIES[0][0]);
    const severity = radios('severity', 'How bad is it?', SEVERITIES, 2);
    if (!(await this.#open(title, [category.element, severity.element], 'Save'))) return null;
    return { category: category.value(), severity: Number(severity.value()) };
  }

  /** Answers that the server refused. @param {import('./outbox.js').Outbox} outbox */
  aside(outbox) {
    const rows = outbox.aside().map((item) => {
      const row = h('li', {}, h('p', {}, h('strong', {}, item.kind === 'flag' ? 'A report' : 'An answer'), `: ${item.error}`),
        h('details', {}, h('summary', {}, 'What was to be saved'),
          h('pre', { tabindex: '0' }, JSON.stringify(item.body, null, 1))),
        button({ class: 'g-tool', onclick: () => (outbox.retry(item), row.remove()) }, 'Try again'),
        button({ class: 'g-tool', onclick: () => (outbox.discard(item), row.remove()) }, 'Delete it'));
      return row;
    });
    const words = 'The server can’t take these as they are. They stay in this browser until you try again or delete them; '
      + 'an admin can help.';
    return this.#open('Not saved', [h('p', {}, words), h('ul', { class: 'g-aside' }, ...rows)]);
  }

  /** Someone else signed in to this browser. */
  taken(name) {
    const words = `${name} is signed in to this browser now. What you answered is kept here `
      + 'and will be sent when you sign in again.';
    return this.#open('Signed in as someone else', [h('p', {}, words)], `Go on as ${name}`);
  }

  /** @returns {Promise<boolean>} whether it was closed by its button */
  #open(title, content, done = 'Close') {
    return new Promise((resolve) => {
      // Everything ends at once, not with the later `close` event: the next key may be an answer already.
      const finish = (saved) => {
        if (!dialog.isConnected) return;
        dialog.close();
        dialog.remove();
        resolve(saved);
        this.onModal(this.isOpen);
      };
      const close = button({ class: 'g-tool g-close', 'aria-label': 'Close', onclick: () => finish(false) }, icon('close'));
      const primary = h('button', { class: 'g-primary', autofocus: !content.some(wantsFocus) }, done);
      const onsubmit = (event) => (event.preventDefault(), finish(true));
      const form = h('form', { onsubmit }, h('header', {}, h('h2', { id: 'g-dialog-title' }, title), close),
        h('div', { class: 'g-dialog-body' }, ...content), h('footer', {}, primary));
      const onclose = () => finish(false);
      const onkeydown = (event) => event.key === 'Escape' && (event.preventDefault(), finish(false));
      const props = { class: 'g-dialog', 'aria-labelledby': 'g-dialog-title', onclose, onkeydown };
      const dialog = h('dialog', props, form);
      this.parent.append(dialog);
      this.onModal(true);
      dialog.showModal();
    });
  }
}

const wantsFocus = (part) => part.matches('[autofocus]') || part.querySelector('[autofocus]');

/** A set of radio buttons whose digits choose while the focus is inside. */
function radios(name, legend, options, chosen) {
  const inputs = options.map(([value], idx) => {
    const input = h('input', { type: 'radio', name, value, autofocus: name === 'category' && idx === 0 });
    input.checked = value === chosen;
    return input;
  });
  const labels = options.map(([, words], idx) => h('label', {}, inputs[idx], cap(idx + 1), h('span', {}, words)));
  const element = h('fieldset', { class: `g-radios g-${name}`, onkeydown: (event) => {
    const input = inputs[Number(event.key) - 1];
    if (!input) return;
    input.checked = true;
    input.focus();
    event.preventDefault();
  } }, h('legend', {}, legend), ...labels);
  return { element, value: () => inputs.find((input) => input.checked).value };
}
